"""The errors that are the user's to mend."""


class UserError(Exception):
    """An error whose message is shown to the user as it is, without a traceback."""

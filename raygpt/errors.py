"""Errors that the user can correct."""


class UserError(Exception):
    """An error whose message is shown to the user as it is, without a traceback."""

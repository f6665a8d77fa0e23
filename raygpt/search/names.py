"""The names of trials, which are also the names of their folders and the ids in the tables."""


def trial_name(number: int) -> str:
    """The name of a trial of the search, from its number in the search: `0008`."""
    return f"{number:04d}"


def trial_number(name: str) -> int:
    """The number in the search of a trial with that name."""
    return int(name)


def confirming_name(trial_id: str, number: int) -> str:
    """The name of a run that trains a trial's values with another seed: `0008-2` is the second."""
    return f"{trial_id}-{number}"

"""The files that a corpus of files is read from."""

import glob
from pathlib import Path


def matching_files(pattern: str) -> list[Path]:
    """The files that a path or glob matches, in no particular order."""
    path = Path(pattern).expanduser()
    if path.is_file():  # its own name may contain [ or *
        return [path]
    # Path.glob does not take an absolute pattern.
    found = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207
    return [file for file in found if file.is_file()]

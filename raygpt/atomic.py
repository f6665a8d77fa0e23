"""Files that are replaced in one step."""

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object], durable: bool = False) -> None:
    """Let `write` fill a file beside `path`, then put that file in the place of `path`.

    A process that reads `path` at any time, also after a kill, finds the old content or the new
    content. If `write` fails, the old content stays and the unfinished file is removed.

    Args:
        path: the file to make or replace.
        write: gets the path of the unfinished file, `.NAME.partial` in the same folder.
        durable: whether the content must be on the disk, not only in the system's cache, before
            the file takes its name, so that it also survives a power failure.

    Raises:
        OSError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        if durable:
            with partial.open("rb+") as stream:
                os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

"""A token cache in an object store, such as s3://bucket/raygpt: files are copied here and there."""

import re

from raygpt.errors import UserError


def is_uri(cache: str) -> bool:
    """Whether a cache is named by a URI rather than a path."""
    return re.match(r"[a-z][a-z0-9+.-]*://", cache) is not None


class Store:
    """The files of one folder in an object store.

    Args:
        uri: as pyarrow's file systems know them: s3://, gs://, hdfs:// or file://.
        folder: below it.

    Raises:
        UserError: here and in all methods, if the store cannot be reached or refuses.
    """

    def __init__(self, uri: str, folder: str):
        from pyarrow.fs import FileSystem

        self.uri = uri
        try:
            self._filesystem, path = FileSystem.from_uri(uri)
        except (OSError, ValueError) as error:
            raise self._error("opened", error) from error
        self._path = f"{path.rstrip('/')}/{folder}"

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        try:
            with self._filesystem.open_input_stream(f"{self._path}/{name}") as stream:
                return stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error("read", error) from error

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, whole."""
        try:
            # What has directories wants them made; an object store does nothing here.
            self._filesystem.create_dir(f"{self._path}/{name}".rpartition("/")[0])
            with self._filesystem.open_output_stream(f"{self._path}/{name}") as stream:
                stream.write(content)
        except OSError as error:
            raise self._error("written", error) from error

    def _error(self, done: str, error: Exception) -> UserError:
        return UserError(
            f"data.cache: {self.uri} cannot be {done} ({error}). Check its name, the network and "
            f"your credentials for it, or name a folder instead."
        )

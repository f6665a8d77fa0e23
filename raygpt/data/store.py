"""A token cache in an object store, such as s3://bucket/raygpt."""

import re

from raygpt.errors import UserError


class Store:
    """The files of one folder in an object store.

    Args:
        uri: one that pyarrow's file systems know: s3://, gs://, hdfs:// or file://.
        folder: its name below the URI.

    Raises:
        UserError: here and in all methods, if the store cannot be reached or denies access.
    """

    def __init__(self, uri: str, folder: str):
        from pyarrow.fs import FileSystem

        # The URI may contain a key and secret, which must not be shown.
        self._name = re.sub(r"//[^/@]*@", "//…@", uri)
        try:
            self._filesystem, path = FileSystem.from_uri(uri)
        except (OSError, ValueError) as error:
            raise self._error("opened", error) from error
        self._path = f"{path.rstrip('/')}/{folder}"
        self._has_folders = self._filesystem.type_name in ("local", "hdfs")

    def __str__(self) -> str:
        return self._name

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is none."""
        try:
            with self._filesystem.open_input_stream(f"{self._path}/{name}") as stream:
                return stream.read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._error("read", error) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file; it becomes visible only when it is complete."""
        path = f"{self._path}/{name}"
        try:
            if self._has_folders:
                self._filesystem.create_dir(path.rpartition("/")[0])
            # In an object store a file appears when its stream is closed.
            written = f"{path}.part" if self._has_folders else path
            with self._filesystem.open_output_stream(written) as stream:
                stream.write(content)
            if self._has_folders:
                self._filesystem.move(written, path)
        except (OSError, ValueError) as error:
            raise self._error("written", error) from error

    def _error(self, done: str, error: Exception) -> UserError:
        return UserError(
            f"data.cache: {self} cannot be {done} ({error}). Check its name, the network and "
            f"your credentials for it, or name a folder instead."
        )

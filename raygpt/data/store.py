"""A token cache in an object store, such as s3://bucket/raygpt: files are copied here and there."""

import re

from raygpt.errors import UserError


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

        # Without the key and secret that it may hold.
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
        """The content of a file; None where there is none."""
        try:
            with self._filesystem.open_input_stream(f"{self._path}/{name}") as stream:
                return stream.read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._error("read", error) from error

    def write(self, name: str, content: bytes) -> None:
        """Put a file there: nobody sees it before it is whole."""
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

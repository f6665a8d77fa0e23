import pytest


@pytest.fixture
def written(tmp_path):
    """Writes a text to a recipe file and gives its path."""

    def write(text, name="x.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write

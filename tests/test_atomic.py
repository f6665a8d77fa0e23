import pytest

from raygpt.atomic import replace_file


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_made_and_replaced(tmp_path, durable):
    path = tmp_path / "table"
    for content in ("old", "new"):
        replace_file(path, lambda partial, content=content: partial.write_text(content), durable)
        assert path.read_text() == content
        assert list(tmp_path.iterdir()) == [path]


def test_the_old_content_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "table"
    path.write_text("old")

    def write(partial):
        partial.write_text("ne")
        assert path.read_text() == "old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_raises_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "gone" / "table", lambda partial: partial.write_text("x"))

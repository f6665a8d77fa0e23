import pytest

from raygpt.atomic import replace_file


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_made_and_replaced(tmp_path, durable):
    path = tmp_path / "table"
    for content in ("old", "new"):
        replace_file(path, lambda partial, content=content: partial.write_text(content), durable)
        assert path.read_text() == content
        assert list(tmp_path.iterdir()) == [path]


def test_the_old_content_is_there_until_the_new_one_is_whole(tmp_path):
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


def test_a_folder_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "gone" / "table", lambda partial: partial.write_text("x"))

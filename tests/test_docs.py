"""Checks README.md and docs/: links, recipes, and the example with one's own text."""

import re
from pathlib import Path

import pytest

from raygpt.data.prepare import prepare
from raygpt.recipe.search_file import load_search_file

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
OWN_TEXT = ROOT / "examples" / "own_text" / "search.yaml"
# Targets of links and pictures.
LINK = re.compile(r'\]\(([^()\s]+)\)|src="([^"]+)"')


def anchors(page):
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_point_to_existing_files_and_headings(page):
    for match in LINK.finditer(page.read_text()):
        target = match[1] or match[2]
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


def test_the_files_that_the_guide_names_exist():
    text = (ROOT / "docs" / "adding_things.md").read_text()
    names = re.findall(r"`((?:\w+/)+|(?:\w+/)*\w+\.py)`", text)
    assert len(names) > 30
    for name in set(names) - {"__init__.py"}:
        assert (ROOT / "raygpt" / name).exists() or (ROOT / name).exists(), name


def test_pictures_are_small():
    pictures = list((ROOT / "docs").glob("*.png"))
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 150_000, picture


def yaml_blocks(page):
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_readme_shows_the_recipe_of_the_example(tmp_path):
    (shown,) = [block for block in yaml_blocks(README) if block.startswith("name:")]
    file = tmp_path / "search.yaml"
    file.write_text(shown)
    shown, shipped = load_search_file(file), load_search_file(OWN_TEXT)
    assert (shown.baseline(), shown.ranges) == (shipped.baseline(), shipped.ranges)


def test_excerpts_of_recipes_are_valid(tmp_path):
    excerpts = [block for block in yaml_blocks(README) if not block.startswith("name:")]
    assert excerpts
    for excerpt in excerpts:
        file = tmp_path / "search.yaml"
        needed = "" if "training:" in excerpt else "training:\n"
        file.write_text(excerpt.rstrip() + f"\n{needed}  tokens: 300M\n  learning_rate: 6e-4\n")
        assert load_search_file(file)


def test_the_own_text_example_has_documents_on_both_sides(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)  # its path is relative to the root of the repository
    found = load_search_file(OWN_TEXT, overrides=[f"data.cache={tmp_path}"])
    recipe = found.baseline()
    dataset = prepare(recipe.data, found.largest_budget())
    documents = {
        split: sum(shard[split]["documents"] for shard in dataset.manifest["shards"])
        for split in ("train", "validation")
    }
    assert documents == {"train": 12, "validation": 2}
    assert len(dataset.validation) > 10 * recipe.data.context

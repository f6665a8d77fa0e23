"""`best.yaml`: the best recipe of a run, to train with `raygpt.train` or to search on from."""

from pathlib import Path

from raygpt.recipe.schema import Recipe
from raygpt.recipe.writer import recipe_to_yaml
from raygpt.results import files


def write_best_recipe(folder: Path, recipe: Recipe, origin: str) -> None:
    """Write the best recipe into a run folder, in place of the one that is there.

    Args:
        folder: the run folder.
        recipe: the best trial's recipe, with the name of the search.
        origin: which trial it is and how good, a sentence without its full stop; the file's first
            line.
    """
    best = recipe.model_copy(update={"name": f"{recipe.name}-best"})
    text = f"# {origin}.\n{recipe_to_yaml(best)}"
    files.replace_file(folder / files.BEST_RECIPE, lambda path: path.write_text(text))

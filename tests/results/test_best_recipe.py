from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.best_recipe import write_best_recipe


def test_the_best_recipe_reads_back_equal_under_a_name_of_its_own(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("training: {tokens: 1M, learning_rate: 3.162e-3}\n")
    recipe = load_search_file(path).single_recipe()
    for origin in ("Trial 0001: 2.5 bits per byte", "Trial 0002: 2.0 bits per byte"):
        write_best_recipe(tmp_path, recipe, origin)
        written = tmp_path / files.BEST_RECIPE
        assert written.read_text().splitlines()[0] == f"# {origin}."
        best = load_search_file(written).single_recipe()
        assert best == recipe.model_copy(update={"name": "tiny-best"})

"""Recipes: everything that a training run depends on, and ranges in place of some values."""

from raygpt.recipe.errors import RecipeError
from raygpt.recipe.json_text import read_recipe_json, recipe_to_json
from raygpt.recipe.own_model import module_digest
from raygpt.recipe.ranges import Choice, Int, LogUniform, Range, Uniform
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile, load_search_file
from raygpt.recipe.sections import Count, Data, Model, Number, Search, Switch, Training
from raygpt.recipe.writer import recipe_to_yaml

__all__ = [
    "Choice",
    "Count",
    "Data",
    "Int",
    "LogUniform",
    "Model",
    "Number",
    "Range",
    "Recipe",
    "RecipeError",
    "Search",
    "SearchFile",
    "Switch",
    "Training",
    "Uniform",
    "load_search_file",
    "module_digest",
    "read_recipe_json",
    "recipe_to_json",
    "recipe_to_yaml",
]

"""Recipes: everything a training run depends on, and the ranges a search puts in its place."""

from raygpt.recipe.errors import RecipeError
from raygpt.recipe.ranges import Choice, Int, LogUniform, Range, Uniform
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile, load_search_file
from raygpt.recipe.sections import Data, Model, Search, Training
from raygpt.recipe.writer import recipe_to_yaml

__all__ = [
    "Choice",
    "Data",
    "Int",
    "LogUniform",
    "Model",
    "Range",
    "Recipe",
    "RecipeError",
    "Search",
    "SearchFile",
    "Training",
    "Uniform",
    "load_search_file",
    "recipe_to_yaml",
]

import pickle

from raygpt.errors import UserError
from raygpt.recipe.consistency import Contradiction, Contradictions
from raygpt.recipe.errors import RecipeError, all_of, allowed, closest


def test_a_recipe_error_is_for_the_user_and_for_pydantic():
    error = RecipeError("is wrong", "write it right")
    assert isinstance(error, UserError)
    assert isinstance(error, ValueError)
    assert str(error) == "is wrong; write it right"
    assert str(RecipeError("is wrong")) == "is wrong"


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(RecipeError("is wrong", "write it right")))
    assert (error.message, error.hint) == ("is wrong", "write it right")
    found = [Contradiction(("a", "b"), "clash")]
    assert pickle.loads(pickle.dumps(Contradictions(found))).found == found


def test_all_of_leaves_repetitions_out_and_keeps_the_order():
    assert str(all_of(["b", "a", "b"])) == "b\na"


def test_the_nearest_name_comes_first():
    assert allowed("tpee", ["tpe", "random"]) == 'did you mean "tpe"? Allowed here: tpe, random'
    assert allowed("zzz", ["tpe", "random"]) == "allowed here: tpe, random"
    assert closest("BF16", ["bf16", "fp32"]) == "bf16"
    assert closest(None, ["bf16"]) is None

import pandas as pd
import pytest

from raygpt.errors import UserError
from raygpt.results.conditions import describe_none, select


@pytest.fixture
def frame():
    """A table with columns of every kind, a value missing in each."""
    return pd.DataFrame(
        {
            "trial_id": pd.array(["0000", "0001", "0002", None], dtype="string"),
            "tokens": pd.array([300, 900, 1200, None], dtype="Int64"),
            "training.dropout": [0.0, 0.1, 1 / 3, float("nan")],
            "model.layers": pd.Series([2, 2.5, 4, None], dtype=object),
            "training.nesterov": pd.Series([True, False, True, None], dtype=object),
            "baseline": pd.array([True, False, False, None], dtype="boolean"),
            "model.kind": pd.Series(["a b", "c", "d", None], dtype=object),
            "nothing": pd.Series([None] * 4, dtype=object),
        }
    )


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("training.dropout < 0.1", [0]),
        ("training.dropout<=0.1", [0, 1]),
        ("model.dropout < 0.1", [0]),  # another section than the column's
        ("  dropout >= 10%  ", [1, 2]),
        ("dropout = 1/3", [2]),
        ("dropout == 0", [0]),
        ("dropout != 0", [1, 2]),
        ("dropout > -1", [0, 1, 2]),
        ("tokens > 0.3K", [1, 2]),
        ("tokens = 1.2K", [2]),
        ("layers > 2", [1, 2]),
        ("nesterov = true", [0, 2]),
        ("nesterov != True", [1]),
        ("baseline = false", [1, 2]),
        ("trial_id = 0001", [1]),
        ("trial_id >= 0001", [1, 2]),
        ("kind = a b", [0]),
        ("kind = 'a b'", [0]),
        ('kind != "c"', [0, 2]),
        ("nothing != 1", []),
        ("nothing = x", []),
    ],
)
def test_the_rows_that_meet_a_condition(frame, condition, rows):
    found, column = select(frame, condition)
    assert list(found.index) == rows
    assert column in frame
    assert column.endswith(condition.split()[0].split("<")[0].split(".")[-1])


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (
            "dropout",
            "not a condition; write a column, one of < <= > >= = == !=, and a value",
        ),
        ("dropout <", "not a condition"),
        ("< 3", "not a condition"),
        ("", "not a condition"),
        ("dropout <> 3", "not a condition"),
        ("0 < dropout < 3", "there is no such column"),
        ("training.drpout < 3", 'there is no such column; did you mean "training.dropout"?'),
        ("dropout < high", "training.dropout is a number, and high is not"),
        ("tokens < 1e999", "tokens is a number, and 1e999 is not"),
        ("dropout < nan", "and nan is not"),
        ("baseline = 1", "baseline is true or false, and 1 is neither"),
        ("@pd.io = 1", "there is no such column"),
        ("__import__('os') == 1", "there is no such column"),
    ],
)
def test_an_invalid_condition_is_one_message(frame, condition, said):
    with pytest.raises(UserError) as error:
        select(frame, condition)
    assert str(error.value).startswith(f"--where '{condition}': ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_table_has_no_matching_rows(frame):
    assert len(select(frame.iloc[:0], "dropout < 0.1")[0]) == 0
    assert len(select(frame.iloc[:0], "kind = a")[0]) == 0


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (["tokens = 1"], "tokens is 300 to 1200"),
        (["tokens = 1200001"], "tokens is 300 to 1200128"),
        (["dropout > 1", "kind = x"], "training.dropout is 0 to 0.333333; model.kind is a b, c, d"),
        (["dropout > 1", "dropout < 0"], "training.dropout is 0 to 0.333333"),
        (["nothing = x"], "nothing is missing"),
        (["alike = 3"], "alike is 2"),
        (["error = x"], "error is line one line two is longer than there…"),
        (["name = x"], "name is 0, 1, 10, 11, 2, 3, 4, …"),
    ],
)
def test_a_condition_without_matches_shows_the_existing_values(frame, conditions, said):
    if "1200001" in conditions[0]:
        frame.loc[2, "tokens"] = 1_200_128
    frame = frame.loc[[*frame.index, *frame.index, *frame.index]].reset_index(drop=True)
    frame = frame.assign(
        alike=2.0,
        error="line one\nline two is longer than there is room for",
        name=pd.Series(range(12)).astype(str),
    )
    asked = " ".join(f"--where '{condition}'" for condition in conditions)
    assert describe_none(frame, conditions) == f"No trial meets {asked}: {said}"


def test_an_invalid_condition_after_one_without_matches_is_found(frame):
    with pytest.raises(UserError, match="often is not"):
        describe_none(frame, ["dropout > 1", "dropout < often"])

import pandas as pd
import pytest

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.comparability import (
    BUDGET,
    at_largest_budget,
    differences,
    why_incomparable,
)
from raygpt.results.confirmation import confirmation
from raygpt.results.leaderboard import leaderboard
from raygpt.results.run_comparison import (
    budgets,
    describe_budgets,
    refuse_incomparable,
    scored_texts,
)
from raygpt.results.tables import RunTables, load_results, ranked

TEXT = {"validation_set": "v", "context": 64, "scored_tokens": 300, "scored_bytes": 900}
SEARCH = """\
name: made
data: {{corpus: sample, tokenizer: bpe-1024, context: {context}}}
model: {{d_model: 32, n_layers: 2, n_heads: 2}}
training:
  tokens: {tokens}
  batch_tokens: {{int: [512, 4096]}}
  learning_rate: {{loguniform: [2e-3, 2e-2]}}
search: {{rungs: [1/3, 1]}}
"""


@pytest.fixture
def run_of(tmp_path, report):
    """Makes a run with a baseline and another trial, whose bits per byte are given."""

    def make(name, tokens=900_000, search="", scores=(2.5, 2.0), **text):
        folder = tmp_path / name
        folder.mkdir()
        if search:
            (folder / files.SEARCH).write_text(search)
        data = {"data": "d", **TEXT, **text}
        data = {name: value for name, value in data.items() if value is not None}
        tables = RunTables(folder, ["x.y"], data)
        for number, bits in enumerate(scores):
            tables.begin_trial(f"{number:04}", 0, {"x.y": number}, baseline=not number)
            figures = report(tokens, bits, 1, bits_per_token=3 * bits)
            tables.add_report(f"{number:04}", figures)
            tables.end_trial(f"{number:04}", "completed")
        return load_results(folder)

    return make


# --- the text -----------------------------------------------------------------------------------


def test_equal_figures_do_not_differ():
    assert differences(TEXT, dict(TEXT)) == []
    assert differences(TEXT | {BUDGET: 900}, TEXT | {BUDGET: 900}, TEXT | {BUDGET: 900}) == []


@pytest.mark.parametrize("name", [*TEXT, BUDGET])
def test_every_column_can_make_figures_incomparable(name):
    one = TEXT | {BUDGET: 900}
    assert differences(one, one, one | {name: "other"}) == [name]
    # An unknown value is not a known difference.
    assert differences(one, {key: value for key, value in one.items() if key != name}) == []


def test_trials_have_the_fingerprints_of_the_dataset(run_of):
    (found,) = scored_texts(run_of("a"))
    assert differences(found, TEXT) == []
    assert TEXT.items() <= found.items()


@pytest.mark.parametrize(
    ("name", "other", "setting"),
    [
        ("validation_set", "w", "data.validation_fraction"),
        ("context", 128, "data.context"),
        ("scored_tokens", 299, "data.validation_tokens"),
        ("scored_bytes", 901, "data.tokenizer"),
    ],
)
def test_runs_on_other_text_are_refused_with_the_setting_to_change(run_of, name, other, setting):
    runs = {"a": run_of("a"), "b": run_of("b"), "c": run_of("c", **{name: other})}
    refuse_incomparable({key: runs[key] for key in "ab"})
    with pytest.raises(UserError) as error:
        refuse_incomparable(runs)
    message = str(error.value)
    assert f"{name} (a, b: {TEXT[name]}; c: {other}), decided by" in message
    assert setting in message.partition("decided by")[2]
    assert "--force" in message
    assert message.count("decided by") == 1


def test_a_new_search_can_be_compared_with_a_run(run_of):
    there = scored_texts(run_of("a"))
    assert why_incomparable({"a": there, "this search": [TEXT]}) == ""
    why = why_incomparable({"a": there, "this search": [TEXT | {"context": 32}]})
    assert why == "context (a: 64; this search: 32), decided by data.context"


# --- runs of older versions ---------------------------------------------------------------------


UNRECORDED = dict.fromkeys(["context", "scored_tokens", "scored_bytes"])


def test_an_older_run_has_its_context_from_its_search_file(run_of):
    old = run_of("old", search=SEARCH.format(context=64, tokens=900_000), **UNRECORDED)
    refuse_incomparable({"new": run_of("new"), "old": old})
    with pytest.raises(UserError, match=r"context \(new: 32; old: 64\)"):
        refuse_incomparable({"new": run_of("other", context=32), "old": old})


def test_an_older_run_with_another_tokenizer_is_recognised_by_its_bytes_per_token(run_of):
    old = run_of("old", search=SEARCH.format(context=64, tokens=900_000), **UNRECORDED)
    new = run_of("new", scored_tokens=250)
    with pytest.raises(UserError, match=r"bytes_per_token \(new: 3\.6; old: 3\.0\).*tokenizer"):
        refuse_incomparable({"new": new, "old": old})


@pytest.mark.parametrize("name", ["validation_set", "context"])
def test_runs_with_unknown_text_are_refused(run_of, name):
    old = run_of("old", **UNRECORDED | {name: None})
    with pytest.raises(UserError, match=rf"{name} \(new: \w+; old: not known\)"):
        refuse_incomparable({"new": run_of("new"), "old": old})


def test_a_resumed_older_run_gets_the_columns(run_of):
    old = run_of("old", **UNRECORDED)
    tables = RunTables(old.folder, ["x.y"], {"data": "d", **TEXT})
    tables.flush()
    (found,) = scored_texts(load_results(old.folder))
    assert TEXT.items() <= found.items()


def test_a_resumed_run_with_unknown_data_keeps_it_unknown(run_of):
    old = run_of("old", data=None, **UNRECORDED)
    RunTables(old.folder, ["x.y"], {"data": "d", **TEXT}).flush()
    assert load_results(old.folder).trials["context"].isna().all()


# --- the budget ---------------------------------------------------------------------------------


@pytest.fixture
def of_several_batch_sizes(tmp_path, report):
    """A run in which the budget is rounded to other `tokens` in each trial; the best has fewest."""
    (tmp_path / files.SEARCH).write_text(SEARCH.format(context=64, tokens=900_000))
    tables = RunTables(tmp_path, ["training.batch_tokens"])
    for number, (rung, tokens, bits) in enumerate(
        [(1, 901_120, 2.5), (1, 900_096, 2.25), (1, 899_072, 2.0), (0, 300_032, 1.5)]
    ):
        name = f"{number:04}"
        tables.begin_trial(name, 0, {"training.batch_tokens": 512}, baseline=not number)
        tables.add_report(name, report(300_000 + number, 3.0 - 0.125 * number, 0))
        tables.add_report(name, report(tokens, bits, rung))
        tables.end_trial(name, "completed" if rung else "stopped")
    return tables


def test_budgets_that_differ_only_by_rounding_are_equal(of_several_batch_sizes):
    tables = of_several_batch_sizes
    results = load_results(tables.folder)
    assert list(ranked(results.trials)["trial_id"]) == ["0002", "0001", "0000", "0003"]
    assert results.best["trial_id"] == tables.best()["trial_id"] == "0002"
    assert set(at_largest_budget(results.trials)["trial_id"]) == {"0000", "0001", "0002"}
    frame = leaderboard([results]).set_index("trial_id")
    assert frame.loc["0002", "gain"] == 0.5
    assert budgets(results) == {0: 300_000, 1: 900_000}


def test_further_runs_of_other_batch_sizes_are_compared(of_several_batch_sizes, report):
    tables = of_several_batch_sizes
    for trial_id, tokens, bits in (("0000", 901_120, 2.5), ("0002", 899_072, 2.0)):
        for number in (1, 2):
            name = f"{trial_id}-{number}"
            tables.begin_trial(name, number, {}, confirms=trial_id)
            tables.add_report(name, report(tokens, bits + number / 100, 1))
            tables.end_trial(name, "completed")
    found = confirmation(load_results(tables.folder).trials)
    assert [len(c.scores) for c in found.configurations] == [2, 2]
    assert found.winner.trial_id == "0002"


def test_a_run_without_a_search_file_has_the_budgets_of_its_trials(run_of):
    assert budgets(run_of("a")) == {1: 900_000}


def searched_with(tokens):
    return SEARCH.format(context=64, tokens=tokens)


def test_runs_of_different_budgets_are_listed_one_after_the_other(run_of):
    small = run_of("small", 900_000, searched_with(900_000))
    large = run_of("large", 9_000_000, searched_with(9_000_000), scores=(3.5, 3.25))
    refuse_incomparable({"small": small, "large": large})
    frame = leaderboard([small, large])
    # The larger budget comes first, though its figures are worse.
    assert list(frame["run"]) == ["large", "large", "small", "small"]
    assert list(frame["bits_per_byte"]) == [3.25, 3.5, 2.0, 2.5]
    # Each gain is over the baseline of the same run.
    assert list(frame["gain"]) == [0.25, 0.0, 0.5, 0.0]


def test_a_gain_needs_a_baseline_with_the_same_budget(of_several_batch_sizes, report):
    tables = of_several_batch_sizes
    tables.begin_trial("0004", 0, {})
    tables.add_report("0004", report(100_000, 1.0, 2))
    frame = leaderboard([load_results(tables.folder)]).set_index("trial_id")
    assert pd.isna(frame.loc["0004", "gain"])
    assert frame.loc["0003", "gain"] == 1.5


def test_different_budgets_of_runs_are_described(run_of):
    small = run_of("small", 900_000, searched_with(900_000))
    same = run_of("same", 901_120, searched_with(900_000))
    large = run_of("large", 9_000_000, searched_with(9_000_000))
    assert describe_budgets({"small": small, "same": same}) == ""
    text = describe_budgets({"small": small, "large": large})
    assert "training.tokens: small 900,000, large 9,000,000" in text
    assert "\n" not in text
    assert describe_budgets({}) == ""


def test_runs_with_equal_budgets_are_ranked_together_despite_rounding(run_of):
    one = run_of("one", 901_120, searched_with(900_000))
    other = run_of("other", 899_072, searched_with(900_000))
    assert list(leaderboard([one, other])["bits_per_byte"]) == [2.0, 2.0, 2.5, 2.5]


def test_trials_without_a_figure_are_not_at_the_largest_budget(tables, begin):
    begin("0000")
    trials = load_results(tables.folder).trials
    assert at_largest_budget(trials).empty
    assert isinstance(at_largest_budget(trials), pd.DataFrame)

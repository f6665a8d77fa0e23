import dataclasses
import json
import re
import shutil

import pandas as pd
import plotly.graph_objects as go
import pytest
from filelock import FileLock

from raygpt.analysis.blocks import Pictures, Table
from raygpt.analysis.headlines import verdict
from raygpt.analysis.page import MARK, render_report
from raygpt.analysis.run import load_results
from raygpt.analysis.sections import cost, won
from raygpt.results.tables import RunTables

SECTIONS = ["asked", "won", "cost", "importance", "region", "trials", "failures", "next"]


def sections_of(page):
    return re.findall(r'<section id="(\w+)">', page)


def text_of(page, name):
    """The words of a section."""
    _, _, rest = page.partition(f'<section id="{name}">')
    return " ".join(re.sub(r"<[^>]*>", " ", rest.partition("</section>")[0]).split())


def figures_of(page):
    return json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture(scope="module", autouse=True)
def few_repeats():
    """Few repeats in the importance, because they take most of the time of a page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raygpt.analysis.importance.REPEATS", 20)
        yield


@pytest.fixture(scope="module")
def page(hundred):
    return render_report(hundred)


@pytest.fixture
def copied(made_search, tmp_path):
    """The folder of a search of 12, to be changed."""
    return shutil.copytree(made_search(12).folder, tmp_path / "made")


def test_the_sections_are_in_order(page):
    assert page.startswith(MARK)
    assert sections_of(page) == SECTIONS
    assert 'id="unfinished"' not in page


def test_the_page_loads_nothing_from_elsewhere(page):
    own = page.partition("<script>")[0] + page.rpartition("</script>")[0].rpartition("<script>")[2]
    assert not re.search(r"(src|href)=.?(?!#)[\"'/h]", own.replace('href="#', ""))
    # The library itself, once.
    assert page.count("plotly.js v") == 1


def test_the_winner_is_called_unconfirmed(page, hundred):
    words = text_of(page, "won")
    assert (
        f"{hundred.best['bits_per_byte']:.4f} bits per byte, trial {hundred.best['trial_id']}"
        in words
    )
    assert "Nothing was confirmed: every configuration was trained once" in words
    assert f"Best: trial {hundred.best['trial_id']} with " in page
    assert "It was trained once, and is not confirmed." in page
    assert "search.confirm={top: 3, seeds: 3}" in text_of(page, "next")


def test_the_lead_over_the_second_best_is_shown(page, hundred):
    completed = hundred.trials.query("status == 'completed'")["bits_per_byte"].sort_values()
    ahead = completed.iloc[1] - completed.iloc[0]
    words = text_of(page, "won")
    assert f"{ahead:.4f} bits per byte fewer than the second best, one run each" in words


def test_a_lead_over_the_baseline_is_shown_once(hundred):
    completed = hundred.trials.query("status == 'completed'").sort_values("bits_per_byte")
    two = completed[completed["baseline"] | (completed["trial_id"] == hundred.best["trial_id"])]
    words = [str(block) for block in won.blocks(dataclasses.replace(hundred, trials=two))]
    assert "fewer than the baseline" in words[0]
    assert "than the second best" not in words[0]


def test_tokens_saved_by_stopping_are_net_of_cooldowns(page, hundred):
    counts = hundred.trials["status"].value_counts()
    completed, stopped = counts["completed"], counts["stopped"]
    rung, budget = 399_872, 1_200_128
    cooldown = rung // 2  # which continuing trials train beside their trunk
    spent = stopped * rung + completed * (budget + cooldown)
    whole = (stopped + completed) * budget
    assert (
        f"{stopped} trials stopped early: the {stopped + completed} trials that ended trained on "
        f"{1 - spent / whole:.0%} fewer tokens than the {whole:,} that"
    ) in text_of(page, "cost")


def test_breaks_of_a_run_do_not_count_as_its_time(hundred):
    history = hundred.history.head(4).assign(
        trial_id=["0000", "0000", "0001", "0001"],
        tokens_trained=[1, 2, 1, 2],
        # The second trial starts 10 s after the first, and resumes after an hour's break.
        seconds=[40.0, 100.0, 80.0, 130.0],
        time=pd.Timestamp("2026-01-01", tz="UTC")
        + pd.to_timedelta([40, 100, 90, 3740], "s").as_unit("us"),
    )
    trials = hundred.trials.head(2).assign(seconds=[100.0, 130.0])
    table = next(cost.blocks(dataclasses.replace(hundred, history=history, trials=trials)))
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["time in which trials ran"] == "2.5 minutes"
    assert rows["time of all trials together (1.5 at a time)"] == "3.8 minutes"


def test_the_values_of_the_best_stand_beside_those_of_all(page, hundred):
    tried = hundred.trials["model.dropout"]
    best = hundred.trials.query("status == 'completed'").nsmallest(5, "bits_per_byte")
    ranges = (f"{each.min():.4g} to {each.max():.4g}" for each in (best["model.dropout"], tried))
    words = text_of(page, "region")
    assert "the best 5 trials all 100 trials" in words
    assert f"dropout {hundred.best['model.dropout']:.4g} {' '.join(ranges)}" in words


def test_a_confirmed_run_reports_means_of_further_runs(confirmed):
    run = load_results(confirmed)
    page = render_report(run)
    words = text_of(page, "won")
    assert "mean of 3 further runs, with its standard error" in words
    assert run.conclusions[1] in words.replace("&#39;", "'")
    assert "Nothing was confirmed" not in words
    said = f"on average over 3 further runs. {run.conclusions[1]}.</p>"
    assert said in page.replace("&#39;", "'")
    assert "It is not shown to be better" not in page  # than the baseline, it is
    # The figures of the search are in tables of their own, in their own order.
    own = run.trials[run.trials["confirms"].isna()].set_index("trial_id")
    further, search = (block.rows for block in won.blocks(run) if isinstance(block, Table))
    assert [row[0] for row in further] == [run.best["trial_id"], "0000"]
    assert [row[-1] for row in further] == [
        f"{own['bits_per_byte'][row[0]]:.4f}" for row in further
    ]
    at_the_end = own[own["status"] == "completed"].sort_values("bits_per_byte")
    figures = [f"{score:.4f}" for score in at_the_end["bits_per_byte"]]
    assert [row[2] for row in search][: len(figures)] == figures
    assert "In the search every trial had the seed 0" in words
    assert "Differences as small as the standard deviation are noise" in text_of(page, "region")


def test_the_verdict_names_configurations_that_may_be_as_good(confirmed, tmp_path):
    folder = shutil.copytree(confirmed, tmp_path / "three")
    run = load_results(folder)
    tables = RunTables(folder, run.searched)
    best = run.best["trial_id"]
    third = next(name for name in run.trials["trial_id"] if name not in ("0000", best))
    mean = run.trials.query("confirms == @best")["bits_per_byte"].mean()
    for number in range(1, 4):
        tables.begin_trial(f"{third}-{number}", 20 + number, {}, confirms=third)
        figures = {"tokens": 1_200_128, "tokens_trained": 1_200_128, "seconds": 60.0, "rung": 1}
        figures |= {"bits_per_byte": mean + 0.001 * number, "bits_per_token": 6.0}
        tables.add_report(f"{third}-{number}", figures | {"next_token_accuracy": 0.1})
        tables.end_trial(f"{third}-{number}", "completed")
    tables.flush()
    run = load_results(folder)
    (other,) = {third, best} - {run.best["trial_id"]}
    assert verdict(run).endswith(f". It is not shown to be better than {other}.")


def test_errors_of_trials_are_text_not_markup(page):
    assert "OSError: [/disk] is full &lt;/script&gt;&lt;b&gt;" in text_of(page, "failures")
    assert "the training loss is nan" in text_of(page, "failures")
    # They do not end the script that has the figures either.
    assert len(figures_of(page)) == page.count('class="picture"')


def test_attention_figures_get_a_section(hundred):
    page = render_report(hundred, attention=[Pictures([go.Figure(go.Bar(y=[1]))], "")])
    assert sections_of(page) == [*SECTIONS[:-2], "attention", *SECTIONS[-2:]]


def test_a_search_that_is_running_says_so(copied):
    (copied / ".lock").touch()
    with FileLock(copied / ".lock"):
        page = render_report(load_results(copied))
    assert "This run is still running: 12 of 12 trials have ended" in page
    assert sections_of(page) == SECTIONS


def test_an_interrupted_search_shows_the_command_to_resume(copied):
    tables = RunTables(copied, ["training.learning_rate"])
    tables.begin_trial("0012", 0, {"training.learning_rate": 1e-3})
    tables.flush()
    page = render_report(load_results(copied))
    assert "This run was interrupted: 12 of 13 trials have ended" in page
    assert f"tune {copied / 'search.yaml'} --resume" in text_of(page, "next")


def test_a_search_without_results(tmp_path):
    RunTables(tmp_path, ["training.learning_rate"]).flush()
    page = render_report(load_results(tmp_path))
    assert sections_of(page) == SECTIONS
    assert "No trial has a result yet." in text_of(page, "won")


def test_a_training_run(copied, tmp_path):
    folder = tmp_path / "trained"
    folder.mkdir()
    text = (copied / "search.yaml").read_text()
    text = re.sub(r"\{(log)?uniform: \[(\S+), .*?\].*?\}", r"\2", text)
    (folder / "search.yaml").write_text(text)
    tables = RunTables(folder, ())
    tables.begin_trial("0000", 0, {})
    figures = {"tokens": 1_200_128, "tokens_trained": 1_200_128, "seconds": 60.0, "rung": 1}
    figures |= {"train_bits_per_token": 6.0, "bits_per_token": 6.0, "bits_per_byte": 2.4}
    tables.add_report("0000", figures | {"next_token_accuracy": 0.1, "learning_rate": 1e-3})
    tables.end_trial("0000", "completed")
    tables.flush()
    page = render_report(load_results(folder))
    assert "Nothing was searched: 1 run of the recipe made trained a model" in text_of(
        page, "asked"
    )
    assert "2.4000 bits per byte, the run, at 1,200,128 tokens" in text_of(page, "won")
    assert "confirm" not in text_of(page, "next")
    assert f"raygpt.train {folder / 'search.yaml'}" in text_of(page, "next")
    assert 'id="unfinished"' not in page

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from raygpt.results.confirmation import Configuration, Confirmation, confirmation
from raygpt.results.tables import load_results

SIMULATIONS = 4000


def binomial_slack(rate, number=SIMULATIONS):
    """Largest distance of a share of `number` draws from its rate; exceeded once in 1,000 times."""
    return 3.3 * math.sqrt(rate * (1 - rate) / number)


def drawn(generator, means, runs, deviation=0.01):
    """A confirmation whose configurations have these true means and numbers of runs."""
    return Confirmation(
        Configuration(
            f"{number:04}", tuple(generator.normal(mean, deviation, n)), baseline=not number
        )
        for number, (mean, n) in enumerate(zip(means, runs, strict=True))
    )


def simulated(means, runs, number=SIMULATIONS, **how):
    generator = np.random.default_rng(0)
    return (drawn(generator, means, runs, **how) for _ in range(number))


def claims(words):
    """The sentences that call a difference real."""
    return [text for text in words if " is better than " in text]


# --- the words against a known truth -----------------------------------------------------------


@pytest.mark.parametrize("runs", [(3, 3), (2, 2), (3, 2), (4, 1), (8, 8)])
def test_two_equal_configurations_show_no_difference_in_95_of_100(runs):
    silent = 0
    for found in simulated([2.5, 2.5], runs):
        words = found.words()
        said = any("no difference" in text for text in words)
        assert said != bool(claims(words))
        silent += said
    assert silent / SIMULATIONS == pytest.approx(0.95, abs=binomial_slack(0.95))


@pytest.mark.parametrize(("number", "seeds"), [(4, 3), (6, 2)])
def test_many_equal_configurations_show_no_difference_in_95_of_100(number, seeds):
    silent = sum(not claims(found.words()) for found in simulated([2.5] * number, [seeds] * number))
    assert silent / SIMULATIONS == pytest.approx(0.95, abs=binomial_slack(0.95))


def test_unequal_numbers_of_runs_err_on_the_safe_side():
    silent = sum(not claims(found.words()) for found in simulated([2.5] * 4, [4, 3, 2, 1]))
    assert 0.95 - binomial_slack(0.95) <= silent / SIMULATIONS <= 0.98


def test_a_configuration_three_times_as_noisy_costs_some_of_the_confidence():
    # The README says so: equal variances are what the test takes for granted.
    generator = np.random.default_rng(0)
    silent = 0
    for _ in range(SIMULATIONS):
        scores = [generator.normal(2.5, 0.01 * (3 if n == 3 else 1), 3) for n in range(4)]
        found = Confirmation(Configuration(str(n), tuple(s)) for n, s in enumerate(scores))
        silent += not claims(found.words())
    assert 0.88 < silent / SIMULATIONS < 0.92


def test_large_differences_are_found_and_small_ones_rarely():
    for deviations, least, most in [(5, 0.97, 1), (2.6, 0.4, 0.7), (0.5, 0, 0.1)]:
        better = 2.5 - 0.01 * deviations
        found = [
            any(text.startswith("0001 is better than baseline 0000") for text in c.words())
            for c in simulated([2.5, better, 2.6, 2.6], [3] * 4, 1000)
        ]
        assert least <= np.mean(found) <= most


def test_the_interval_of_a_difference_holds_the_true_one():
    held = 0
    for found in simulated([2.5, 2.48], [3, 3]):
        one, other = sorted(found.compared, key=lambda c: c.trial_id)
        difference = found.difference(one, other)
        sign = 1 if difference.worse is one else -1
        held += abs(sign * difference.amount - 0.02) <= difference.half_width
    assert held / SIMULATIONS == pytest.approx(0.95, abs=binomial_slack(0.95))


def test_the_interval_of_a_mean_holds_the_true_one():
    held = 0
    for found in simulated([2.5, 2.6, 2.7], [3, 3, 2]):
        one = found.compared[1]
        held += abs(one.mean - 2.6) <= found.half_width(one)
    assert held / SIMULATIONS == pytest.approx(0.95, abs=binomial_slack(0.95))


def test_the_winner_of_a_search_over_nothing_is_no_better(table):
    """Twelve equal configurations; the best three by chance are confirmed, and the baseline."""
    generator = np.random.default_rng(0)
    gains, silent = [], 0
    for _ in range(200):
        searched = generator.normal(2.5, 0.01, 12)
        best = [number for number in np.argsort(searched) if number][:3]
        runs = {number: generator.normal(2.5, 0.01, 3) for number in (0, *best)}
        found = confirmation(table(searched, runs))
        silent += not claims(found.words())
        picked = next(c for c in found.configurations if c.trial_id == f"{best[0]:04}")
        gains.append(found.baseline.mean - picked.mean)
    assert silent / 200 == pytest.approx(0.95, abs=binomial_slack(0.95, 200))
    # It was selected for its luck, which its further runs do not have.
    assert np.mean(gains) == pytest.approx(0, abs=3.3 * np.std(gains) / math.sqrt(200))


# --- figures ------------------------------------------------------------------------------------

SCORES = [(2.50, 2.52, 2.51), (2.55, 2.57, 2.53), (2.60, 2.61)]


@pytest.fixture
def three():
    """A baseline and two that are better."""
    return Confirmation(
        Configuration(f"{2 - number:04}", scores, baseline=number == 2)
        for number, scores in enumerate(SCORES)
    )


def test_figures_are_those_of_scipy(three):
    expected = stats.tukey_hsd(*SCORES).confidence_interval(0.95)
    for i, j in [(0, 1), (0, 2), (1, 2)]:
        found = three.difference(three.configurations[i], three.configurations[j])
        assert found.amount - found.half_width == pytest.approx(expected.low[j, i])
        assert found.amount + found.half_width == pytest.approx(expected.high[j, i])
    variance = sum(np.var(scores, ddof=1) * (len(scores) - 1) for scores in SCORES) / 5
    assert three.degrees == 5
    assert three.deviation == pytest.approx(math.sqrt(variance))
    rows = three.standings()
    assert list(rows["trial_id"]) == ["0002", "0001", "0000"]
    assert list(rows["runs"]) == [3, 3, 2]
    assert list(rows["mean"]) == pytest.approx([2.51, 2.55, 2.605])
    error = math.sqrt(variance / 3)
    assert rows["standard_error"][0] == pytest.approx(error)
    half_width = stats.t.ppf(0.975, 5) * error
    assert rows["ci_low"][0] == pytest.approx(2.51 - half_width)
    assert rows["ci_high"][0] == pytest.approx(2.51 + half_width)


def test_with_two_configurations_it_is_the_t_test():
    found = Confirmation([Configuration("0", SCORES[0]), Configuration("1", SCORES[1])])
    expected = stats.ttest_ind(SCORES[1], SCORES[0]).confidence_interval(0.95)
    difference = found.difference(*found.compared)
    assert difference.amount - difference.half_width == pytest.approx(expected.low)
    assert difference.amount + difference.half_width == pytest.approx(expected.high)


# --- the words ----------------------------------------------------------------------------------


def test_the_sentences_of_a_confirmation(three):
    noise, *differences, test = three.words()
    assert noise == (
        "8 runs of 3 configurations, each with a seed of its own. From run to run the standard "
        "deviation is 0.0145 bits per byte (5 degrees of freedom)."
    )
    assert differences == [
        "0002 is better than baseline 0000 (0.0950 bits per byte, 3.6%; 95% interval 0.0520 to "
        "0.1380)",
        "0002 is better than 0001 (0.0400 bits per byte, 1.6%; 95% interval 0.0015 to 0.0785)",
        "0001 is better than baseline 0000 (0.0550 bits per byte, 2.1%; 95% interval 0.0120 to "
        "0.0980)",
    ]
    assert test.startswith(
        "Differences are tested by Tukey's HSD test, with 95% confidence for all of them"
    )
    assert "It shows differences above 0.0430 bits per byte" in test


def test_many_ties_share_a_sentence():
    found = Confirmation(
        Configuration(str(number), (2.5 + number / 1000, 2.52), baseline=number == 4)
        for number in range(5)
    )
    ties = [text for text in found.words() if "no difference shown" in text]
    assert ties[0].startswith("0 and baseline 4: no difference shown (0.0020 bits per byte")
    assert ties[1].startswith("0 and each of 1, 2, 3: no difference shown (at most 0.0015 bits")
    assert ties[2].startswith("baseline 4 and each of 1, 2, 3: no difference shown (at most 0.0015")
    assert len(ties) == 3


def test_the_baseline_may_be_the_best():
    found = Confirmation(
        [Configuration("0000", (2.4, 2.41), baseline=True), Configuration("0001", (2.5, 2.51))]
    )
    assert claims(found.words()) == [
        "baseline 0000 is better than 0001 (0.1000 bits per byte, 4.0%; 95% interval 0.0696 to "
        "0.1304)"
    ]


def test_runs_that_are_all_the_same():
    found = Confirmation([Configuration("0", (2.5, 2.5)), Configuration("1", (2.5, 2.5))])
    assert found.words()[1].startswith("0 and 1: no difference shown (0.0000 bits")
    found = Confirmation([Configuration("0", (2.5, 2.5)), Configuration("1", (2.4, 2.4))])
    assert found.words()[1].startswith("1 is better than 0 (0.1000 bits")


def test_one_run_of_each_shows_nothing():
    found = Confirmation([Configuration("0", (2.5,)), Configuration("1", (2.0,))])
    assert found.winner is None
    assert found.words() == [
        "2 runs of 2 configurations, each with a seed of its own: too few to tell any difference "
        "from noise."
    ]
    assert found.standings()[["standard_error", "ci_low", "ci_high"]].isna().all(axis=None)
    assert not found.difference(*found.compared).real


def test_a_single_run_does_not_win():
    found = Confirmation([Configuration("0", (2.5, 2.51)), Configuration("1", (2.0,), failed=1)])
    assert found.winner.trial_id == "0"
    assert [c.trial_id for c in found.configurations] == ["0", "1"]
    # But it is compared, by the noise of the others.
    assert found.words()[1].startswith("1 is better than 0 (0.5050 bits")


def test_having_two_runs_first_is_not_enough_to_win():
    found = Confirmation([Configuration("0", (3.0, 3.01)), Configuration("1", (2.5,))])
    assert found.winner is None
    assert [c.trial_id for c in found.configurations] == ["1", "0"]
    found = Confirmation([Configuration("0", (3.0, 3.01)), Configuration("1", (2.5, 2.52))])
    assert found.winner.trial_id == "1"


def test_one_configuration_has_nothing_to_be_compared_with():
    words = Confirmation([Configuration("0", (2.5, 2.51))]).words()
    assert len(words) == 1
    assert words[0].startswith("2 runs of 1 configuration, each")


def test_a_diverged_configuration_ranks_last():
    found = Confirmation(
        [
            Configuration("0", (2.0, 2.01), diverged=1),
            Configuration("1", (2.5, 2.51, 2.52)),
            Configuration("2", (2.4,), diverged=2),
            Configuration("3", (), diverged=3),
            Configuration("4", (2.6, 2.61), failed=1),
        ]
    )
    assert [c.trial_id for c in found.configurations] == ["1", "4", "0", "2", "3"]
    assert [c.trial_id for c in found.compared] == ["1", "4"]
    assert found.winner.trial_id == "1"
    rows = found.standings().set_index("trial_id")
    assert list(rows.index) == ["1", "4", "0", "2", "3"]
    assert rows.loc["0", "mean"] == pytest.approx(2.005)
    assert math.isnan(rows.loc["0", "standard_error"])
    assert list(rows["diverged_runs"]) == [0, 0, 1, 2, 3]
    after = "so it ranks after configurations that never diverged, and is not compared."
    assert found.words()[-4:] == [
        "Left out: 1 of 3 runs of 4, which failed.",
        f"0 diverged in 1 of 3 runs, {after}",
        f"2 diverged in 2 of 3 runs, {after}",
        f"3 diverged in 3 of 3 runs, {after}",
    ]


def test_there_is_no_winner_if_all_diverged_or_failed():
    diverged, failed = Configuration("0", (2.0, 2.0), diverged=1), Configuration("1", (), failed=3)
    found = Confirmation([diverged, failed])
    assert found.winner is None
    assert len(found.words()) == 2
    assert list(found.standings()["trial_id"]) == ["0"]


# --- from the tables ----------------------------------------------------------------------------


@pytest.fixture
def table(tables, begin, report):
    """Makes the table of trials: scores of the search by number, and of further runs."""
    columns = load_results(tables.folder).trials.columns

    def make(searched, runs):
        rows = [
            {"trial_id": f"{number:04}", "status": "completed", "bits_per_byte": score}
            for number, score in enumerate(searched)
        ] + [
            {
                "trial_id": f"{number:04}-{run}",
                "status": "completed",
                "bits_per_byte": score,
                "confirms": f"{number:04}",
            }
            for number, scores in runs.items()
            for run, score in enumerate(scores, 1)
        ]
        frame = pd.DataFrame(rows).reindex(columns=columns).assign(rung=1)
        return frame.assign(baseline=(frame["trial_id"] == "0000").astype("boolean"))

    return make


def test_only_further_runs_that_ended_at_the_full_budget_count(search, report):
    for number, (status, bits) in enumerate(
        [("completed", 2.5), ("completed", 2.75), ("diverged", 1.0), ("failed", 1.0), (None, 1.0)]
    ):
        search.begin_trial(f"0003-{number}", number, {}, confirms="0003")
        search.add_report(f"0003-{number}", report(900, bits, 1))
        if status:
            search.end_trial(f"0003-{number}", status, "why")
    found = confirmation(load_results(search.folder).trials)
    assert found.configurations == [
        Configuration("0003", (2.5, 2.75), diverged=1, failed=1, unfinished=1)
    ]
    assert "Not finished yet: 1 of 5 runs of 0003." in found.words()


def test_a_search_without_further_runs_has_no_confirmation(results):
    assert confirmation(results.trials) is None
    assert results.conclusions == []

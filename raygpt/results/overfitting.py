"""Whether a run's budget is so long that its models memorise the training text."""

from raygpt.results.tables import Results


def describe_overfitting(results: Results) -> str | None:
    """A sentence if most completed trials predict the held-out text worse than at a lower rung.

    Returns:
        None if they do not, or if trials were evaluated only at the full budget.
    """
    completed = results.trials.loc[results.trials["status"] == "completed", "trial_id"]
    scored = results.history.dropna(subset=["rung", "bits_per_byte"])
    scored = scored[scored["trial_id"].isin(completed)].sort_values(["trial_id", "rung"])
    if scored.empty:
        return None
    by_trial = scored.groupby("trial_id")["bits_per_byte"]
    worse = by_trial.last() > by_trial.min()
    if worse.mean() <= 0.5:
        return None
    return (
        f"In {worse.sum()} of {len(worse)} completed trials the held-out text was predicted better "
        f"at a lower rung than at the full budget: the models memorise the training text. Lower "
        f"training.tokens, or use more text or more dropout."
    )

"""Report: how the trials went."""

from collections.abc import Iterator

from raygpt.analysis.blocks import Block, Pictures, Text
from raygpt.analysis.headlines import state
from raygpt.analysis.run import Run


def blocks(run: Run) -> Iterator[Block]:
    """Training curves, learning rates and all values at once."""
    yield Text(state(run))
    if run.history.empty:
        yield Text("No trial has reported yet.")
        return
    further = ""
    if run.trials["confirms"].notna().any():
        further = (
            " Further runs appear when you click on their name in the legend; they are evaluated "
            "at their end only."
        )
    yield Pictures(
        [run.plot_curves()],
        "Bits per byte over tokens. Points are measured on held-out text at the rungs, which the "
        "dashed vertical lines mark; a cross marks where a trial was stopped. Lines are the "
        "training loss, converted to bits per byte with the bytes per token of the held-out text. "
        "Dotted lines are cooldowns: at a rung a trial is evaluated as if its budget ended there, "
        "and then resumes from the state before the cooldown, where the dotted line begins. Rank "
        "trials by their points only, because dropout raises the training loss. Click on a name to "
        "hide it, double-click to see it alone." + further,
    )
    yield Pictures(
        [run.plot_learning_rates()],
        "Learning rates, from the first report of each trial; cooldowns to rungs are dotted.",
    )
    if run.searched and run.best is not None:
        yield Pictures(
            [run.plot_parallel_coordinates()],
            "Each line is a trial. It runs through the trial's values to its place on the "
            "leaderboard: the best trial is orange, good ones are blue, and the worst are grey. "
            "Drag along an axis to see only the trials in that part of it.",
            least_width=110 * (len(run.searched) + 1),
        )

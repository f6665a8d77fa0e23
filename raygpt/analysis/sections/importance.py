"""Report: which hyperparameters mattered."""

from collections.abc import Iterator

from raygpt.analysis.blocks import Block, Pictures, Text
from raygpt.analysis.importance import describe_importance
from raygpt.analysis.run import Run
from raygpt.errors import UserError


def blocks(run: Run) -> Iterator[Block]:
    """The importance of each hyperparameter, with its uncertainty."""
    try:
        found = run.importance
    except UserError as error:
        yield Text(f"The importance of the hyperparameters is not known: {error}.")
        return
    yield Text(describe_importance(found))
    yield Pictures(
        [run.plot_importance()],
        "Importance by Optuna's PED-ANOVA: how much the values of the best trials differ from "
        "those of all trials, as a share of the total. Trials that were stopped do not count "
        "among the best. The thin lines are 90% intervals over random halves of the trials. If no "
        "hyperparameter mattered, no bar would cross the dotted line in 95 of 100 searches; bars "
        "that do not cross it are grey. The dotted line applies to the bars, not to their "
        "intervals.",
    )

"""The sections of the report, in their order.

To add one, write a module with a function that yields its blocks, and register it in `sections`.
"""

from collections.abc import Sequence

from raygpt.analysis.blocks import Pictures, Section
from raygpt.analysis.run import Run
from raygpt.analysis.sections import (
    asked,
    attention_heads,
    cost,
    failures,
    importance,
    next_steps,
    region,
    trials,
    won,
)


def sections(run: Run, attention: Sequence[Pictures] = ()) -> list[Section]:
    """All sections of the report that have something to show.

    Args:
        run: the run to report.
        attention: figures of where the heads of the best model attend, if there are any.
    """
    table = [
        ("asked", "What was asked", asked.blocks(run)),
        ("won", "What won, and by how much", won.blocks(run)),
        ("cost", "What it cost", cost.blocks(run)),
        ("importance", "Which hyperparameters mattered", importance.blocks(run)),
        ("region", "Where the good region lies", region.blocks(run)),
        ("trials", "How the trials went", trials.blocks(run)),
        ("attention", "Where the attention heads look", attention_heads.blocks(attention)),
        ("failures", "What failed, and why", failures.blocks(run)),
        ("next", "What to do next, and how to train the winner", next_steps.blocks(run)),
    ]
    made = [Section(name, title, list(blocks)) for name, title, blocks in table]
    return [section for section in made if section.blocks]

"""Report: where the attention heads of the best trial's model look."""

from collections.abc import Iterator, Sequence

from raygpt.analysis.blocks import Block, Pictures, Text


def blocks(pictures: Sequence[Pictures]) -> Iterator[Block]:
    """The figures that `raygpt.report` has made from the trained models, if there are any."""
    if not pictures:
        return
    yield Text(
        "Attention of the best trial's model and of the baseline's, measured on the validation "
        "set; the maps show its first words. A head that attends evenly to all earlier tokens has "
        "not learned where to look, which is common in models that were trained for a short time. "
        "A head that looks equally far back on average may still select its tokens; the maps show "
        "that. Layers and heads are counted from 0."
    )
    yield from pictures

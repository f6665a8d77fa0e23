"""A report as one HTML file, which needs neither a server nor a network connection."""

import json
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import count

from plotly.graph_objects import Figure

from raygpt.analysis.blocks import Pictures
from raygpt.analysis.headlines import state, unfinished, verdict
from raygpt.analysis.run import Run
from raygpt.analysis.sections import sections

MARK = "<!-- A report of raygpt -->"
"""The first line of every report."""


def render_report(run: Run, attention: Sequence[Pictures] = ()) -> str:
    """The page as HTML.

    It contains plotly.js once, and the figures as data, which a script draws in the reader's colour
    scheme, light or dark.

    Args:
        run: the run to report.
        attention: figures of where the heads of the best model attend, if there are any.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("raygpt.analysis", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = sections(run, attention)
    pictures = [block for part in parts for block in part.blocks if isinstance(block, Pictures)]
    figures = [figure for block in pictures for figure in block.figures]
    numbers = count()
    return environment.get_template("report.html.jinja").render(
        mark=MARK,
        title=run.folder.absolute().name,
        state=state(run),
        verdict=verdict(run),
        unfinished=unfinished(run),
        made=datetime.now(timezone.utc),
        sections=parts,
        next_number=lambda: next(numbers),
        figures=_as_json(figures),
        plotly=get_plotlyjs(),
    )


def _as_json(figures: Sequence[Figure]) -> str:
    """A list of figures as JSON that is safe inside a script element."""
    plain = [json.loads(figure.to_json()) for figure in figures]
    for figure in plain:
        # The page's script sets the colours.
        figure["layout"].pop("template", None)
    return json.dumps(plain, separators=(",", ":")).replace("<", "\\u003c")

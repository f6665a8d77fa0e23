"""`python -m raygpt.report RUN`: the results of a run as one HTML file for a browser."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from raygpt.command import command_parser, run_command
from raygpt.errors import UserError

if TYPE_CHECKING:
    from raygpt.analysis.blocks import Pictures
    from raygpt.analysis.run import Run

REPORT = "report.html"
ATTENTION_WINDOWS = 8
"""Windows of the validation set to measure attention in; large models take half a minute each."""


def main(arguments: list[str] | None = None) -> None:
    """Write the report and print its path."""
    parser = command_parser("report", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, such as runs/lr_sched")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"where to write it (default: RUN/{REPORT})"
    )
    parser.add_argument(
        "--no-attention",
        action="store_true",
        help="leave out the attention heads, which need the trained models and the data",
    )
    options = parser.parse_args(arguments)

    from raygpt.analysis.run import load_results

    run = load_results(options.run)
    path = options.out or options.run / REPORT
    refuse_other_file(path)

    from raygpt.analysis.page import render_report
    from raygpt.results.files import replace_file

    page = render_report(run, [] if options.no_attention else attention_pictures(run))
    replace_file(path, lambda partial: partial.write_text(page, encoding="utf-8"))
    print(path)


def attention_pictures(run: "Run") -> "list[Pictures]":
    """Figures of the attention heads of the best trial and the baseline; none if not available."""
    from raygpt.analysis import attention_figures as figures
    from raygpt.analysis.blocks import Pictures
    from raygpt.analysis.comparison import compare_attention

    try:
        found = compare_attention(run, n_windows=ATTENTION_WINDOWS)
    except UserError as error:
        print(f"without attention: {error}", file=sys.stderr)
        return []
    if not found:
        return []
    distances = {name: each.distances for name, each in found.items()}
    maps = {name: each.maps for name, each in found.items()}
    return [
        Pictures([figures.mean_distance_figure(distances)], ""),
        Pictures([figures.distance_histogram_figure(distances)], ""),
        # On a narrower page, the tokens beside a map would overlap.
        Pictures([figures.attention_map_figure(maps)], "", least_width=420 * len(maps)),
    ]


def refuse_other_file(path: Path) -> None:
    """Raise UserError if the path has anything that is not an earlier report."""
    from raygpt.analysis.page import MARK

    if path.is_dir():
        raise UserError(f"--out {path}: is a folder; name a file in it, such as {path / REPORT}")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}; make it first")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(MARK)) != MARK.encode():
                raise UserError(
                    f"--out {path}: exists and is not a report of raygpt, so it is not "
                    f"overwritten; name another file"
                )


if __name__ == "__main__":
    run_command(main)

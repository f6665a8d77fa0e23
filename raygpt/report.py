"""`python -m raygpt.report RUN`: what a run showed, as one HTML file for a browser."""

import argparse
from pathlib import Path

from raygpt.command import run_command
from raygpt.errors import UserError

REPORT = "report.html"


def main(arguments: list[str] | None = None) -> None:
    """Write the report and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m raygpt.report", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, such as runs/lr_sched")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"where to write it (default: RUN/{REPORT})"
    )
    options = parser.parse_args(arguments)

    from raygpt.analysis.run import load_results

    run = load_results(options.run)
    path = options.out or options.run / REPORT
    refuse_other_file(path)

    from raygpt.analysis.page import render_report
    from raygpt.results.files import replace_file

    page = render_report(run)
    replace_file(path, lambda partial: partial.write_text(page, encoding="utf-8"))
    print(path)


def refuse_other_file(path: Path) -> None:
    """Raise UserError if anything but an earlier report would be overwritten."""
    from raygpt.analysis.page import MARK

    if path.is_dir():
        raise UserError(f"--out {path}: is a folder; name a file in it, such as {path / REPORT}")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}; make it first")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(MARK)) != MARK.encode():
                raise UserError(
                    f"--out {path}: is there already and no report, so it is not overwritten; name "
                    f"another file"
                )


if __name__ == "__main__":
    run_command(main)

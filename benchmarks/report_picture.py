"""The README's picture of a report: `python -m benchmarks.report_picture RUN --out docs/report.png`

Writes the report of a run, opens it in the system's chromium, and takes a screenshot of an excerpt:
the first rows of a table and one figure from each of some sections.
"""

import argparse
import io
import shutil
import tempfile
from pathlib import Path

from raygpt import report
from raygpt.command import run_command
from raygpt.errors import UserError

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "chromium-browser")
WIDTH, COLOURS, ROWS = 1100, 64, 4
FIGURES = {"won": None, "trials": 0, "region": -1}
"""Which figure of a section is shown, by the section's name."""
STYLE = """
body { padding: 0 1.2rem .6rem; }
h2 { margin: .8rem 0 .4rem; padding-top: .5rem; }
figure { margin: .2rem 0; }
"""
EXCERPT = """
([figures, rows]) => {
  const missing = Object.keys(figures).filter((name) => !document.getElementById(name));
  if (missing.length) throw new Error(`the report has no section ${missing}`);
  const remove = (elements) => elements.forEach((element) => element.remove());
  for (const section of document.querySelectorAll("section")) {
    if (!(section.id in figures)) { section.remove(); continue; }
    const found = [...section.querySelectorAll("figure")];
    const shown = figures[section.id] === null ? undefined : found.at(figures[section.id]);
    remove(found.filter((figure) => figure !== shown));
    remove([...section.querySelectorAll("tbody tr")].slice(rows));
    if (shown) remove(section.querySelectorAll("div.scroll:has(table)"));
  }
  remove(document.querySelectorAll(
    "nav, figcaption, .modebar-container, details, section > p:not(.notice), header > .quiet"));
}
"""


def screenshot(page_file: Path, browser: str) -> bytes:
    """A PNG of an excerpt of a report.

    Args:
        page_file: the report.
        browser: path of a chromium.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        # Root may not use chromium's sandbox.
        opened = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
        page.goto(page_file.resolve().as_uri())
        page.wait_for_function("document.querySelectorAll('.picture .main-svg').length > 0")
        page.wait_for_load_state("networkidle")
        page.add_style_tag(content=STYLE)
        page.evaluate(EXCERPT, [FIGURES, ROWS])
        page.wait_for_timeout(2000)
        return page.screenshot(full_page=True)


def main(arguments: list[str] | None = None) -> None:
    """Write the picture."""
    from PIL import Image

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report_picture", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--out", type=Path, default=Path("docs/report.png"), metavar="FILE")
    options = parser.parse_args(arguments)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError("no chromium on the PATH; apt install chromium-headless-shell")
    with tempfile.TemporaryDirectory() as folder:
        page_file = Path(folder) / "report.html"
        report.main([str(options.run), "--no-attention", "--out", str(page_file)])
        picture = Image.open(io.BytesIO(screenshot(page_file, browser)))
    # Fewer colours make a file of a third of the size.
    picture.convert("RGB").quantize(COLOURS).save(options.out, optimize=True)
    print(
        f"{options.out}: {picture.width} by {picture.height}, {options.out.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    run_command(main)

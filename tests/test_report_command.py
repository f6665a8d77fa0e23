import shutil
import subprocess
import sys

import pytest

from raygpt.errors import UserError
from raygpt.report import main
from raygpt.results.tables import RunTables

BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "chromium-browser")
SECTIONS = ["asked", "won", "cost", "importance", "region", "trials", "failures", "next"]
PHONE, DESKTOP = 375, 1280


@pytest.fixture
def run(tmp_path):
    """A run folder with four trials."""
    folder = tmp_path / "runs" / "lr_sched"
    folder.mkdir(parents=True)
    tables = RunTables(folder, ["training.weight_decay", "training.hold"])
    for number, bits in enumerate((1.5, 1.25, 1.75, 1.3)):
        values = {"training.weight_decay": 0.1 * (number + 1), "training.hold": 0.2 * number**2}
        tables.begin_trial(f"{number:04}", 0, values, baseline=number == 0)
        for tokens in (1000, 2000):
            figures = {"tokens": tokens, "tokens_trained": tokens, "seconds": 1.0}
            figures |= {"train_bits_per_token": 4.0, "learning_rate": 1e-3}
            if tokens == 2000:
                figures |= {"rung": 0, "bits_per_byte": bits, "bits_per_token": 3 * bits}
            tables.add_report(f"{number:04}", figures | {"next_token_accuracy": 0.25})
        tables.end_trial(f"{number:04}", "completed")
    tables.flush()
    return folder


def test_the_report_stands_in_the_run_folder(run, capsys):
    main([str(run)])
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert "trial 0001" in (run / "report.html").read_text()


def test_an_earlier_report_is_replaced_and_nothing_else_is(run, tmp_path, capsys):
    report = tmp_path / "report.html"
    for _ in range(2):
        main([str(run), "--out", str(report)])
    notes = tmp_path / "notes.html"
    notes.write_text("my notes")
    with pytest.raises(UserError, match="exists and is not a report of raygpt"):
        main([str(run), "--out", str(notes)])
    assert notes.read_text() == "my notes"


@pytest.mark.parametrize(
    ("out", "message"), [(".", "is a folder"), ("no/report.html", "there is no folder")]
)
def test_paths_where_no_report_can_be_written(run, tmp_path, out, message):
    with pytest.raises(UserError, match=message):
        main([str(run), "--out", str(tmp_path / out)])


def test_a_missing_run_is_one_message(tmp_path):
    command = [sys.executable, "-m", "raygpt.report", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'nothing'}: no such folder\n"


def test_help_does_not_wait_for_plotly():
    code = "import sys, raygpt.report as r\ntry: r.main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'plotly' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)} on the PATH")
    with playwright.sync_playwright() as started:
        # Root may not use chromium's sandbox.
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_in_a_browser(run, browser, width, scheme):
    main([str(run)])
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    problems, requests = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: said.type == "error" and problems.append(said.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("html[data-drawn=all]", state="attached", timeout=120_000)
    assert problems == []
    # It works offline: the browser requests only the page and what it contains.
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [
        (run / "report.html").as_uri()
    ]
    assert page.locator("section:visible").evaluate_all("all => all.map(one => one.id)") == SECTIONS
    # Every picture was drawn, within the page, and the page does not scroll sideways.
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pictures = page.locator(".picture")
    assert pictures.count() >= 5
    for picture in pictures.all():
        assert picture.locator("svg").count() > 0
        inside = picture.evaluate("one => one.parentElement.getBoundingClientRect().right")
        assert inside <= width
    # Text contrasts with the page by more than half of the range from black to white.
    shades = page.evaluate(
        "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name]"
        ".match(/[0-9]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3)"
    )
    assert abs(shades[0] - shades[1]) > 128
    assert (shades[1] < 128) == (scheme == "dark")
    title = page.locator(".picture .xtitle").first.evaluate("one => getComputedStyle(one).fill")
    assert title == page.evaluate("getComputedStyle(document.body).color")
    page.close()


def test_a_curve_names_its_trial_under_the_pointer(run, browser):
    main([str(run)])
    page = browser.new_page(viewport={"width": DESKTOP, "height": 900})
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("html[data-drawn=all]", state="attached", timeout=120_000)
    # The first picture of how the trials went: the curves.
    curves = page.locator("#trials .picture").first
    curves.scroll_into_view_if_needed()
    marks = curves.locator(".scatterlayer .point").first.bounding_box()
    page.mouse.move(marks["x"] + marks["width"] / 2, marks["y"] + marks["height"] / 2)
    hover = curves.locator(".hoverlayer .hovertext")
    hover.wait_for(timeout=30_000)
    words = hover.first.text_content()
    assert "weight decay" in words
    assert any(f"{number:04}" in words for number in range(4))
    page.close()

import shutil
from pathlib import Path

import pytest

from benchmarks import report_picture
from benchmarks.report_picture import BROWSERS

RUN = Path(__file__).parents[2] / "examples" / "lr_sched"


@pytest.fixture
def image():
    """PIL.Image, if all that takes the picture is installed."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("no chromium on the PATH")
    return pytest.importorskip("PIL.Image", reason="pillow is not installed")


def test_the_picture_shows_an_excerpt_of_a_report(image, tmp_path):
    out = tmp_path / "report.png"
    report_picture.main([str(RUN), "--out", str(out)])
    picture = image.open(out)
    assert picture.width == report_picture.WIDTH
    assert 1000 < picture.height < 2500
    assert out.stat().st_size < 150_000
    # The figures are drawn: the colours of the baseline and of the best trial are among them.
    colours = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=100_000)}
    assert sum(max(colour) - min(colour) > 60 for colour in colours) > 10


def test_a_section_that_the_report_lacks_is_an_error(image, tmp_path, monkeypatch):
    monkeypatch.setattr(report_picture, "FIGURES", {"elsewhere": None})
    with pytest.raises(Exception, match="no section elsewhere"):
        report_picture.main([str(RUN), "--out", str(tmp_path / "report.png")])


def test_without_a_browser_it_says_what_to_install(monkeypatch, tmp_path):
    pytest.importorskip("PIL.Image", reason="pillow is not installed")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(report_picture.UserError, match="apt install chromium-headless-shell"):
        report_picture.main([str(RUN), "--out", str(tmp_path / "report.png")])

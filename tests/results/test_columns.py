import dataclasses

import pytest

from raygpt.results.columns import HISTORY_COLUMNS, REPORT, RUNG, TRIAL_COLUMNS, Column, copied_from
from raygpt.results.tables import RunTables, load_results
from raygpt.training.loop import Report


def test_figures_of_reports_have_the_reports_names():
    fields = {field.name for field in dataclasses.fields(Report)}
    assert set(HISTORY_COLUMNS) - {"trial_id", "time"} <= fields
    copied = {*copied_from(REPORT), *copied_from(RUNG)}
    assert copied <= fields
    assert copied == {name for name, column in TRIAL_COLUMNS.items() if column.copied}


@pytest.mark.parametrize(("copied", "expected"), [(REPORT, 0.5), (RUNG, 0.25)])
def test_a_figure_of_reports_needs_only_its_entry(tmp_path, report, monkeypatch, copied, expected):
    column = Column("float64", "share of the GPU's peak", copied)
    monkeypatch.setitem(TRIAL_COLUMNS, "mfu", column)
    monkeypatch.setitem(HISTORY_COLUMNS, "mfu", column)
    tables = RunTables(tmp_path, ["x.y"])
    tables.begin_trial("0000", 0, {"x.y": 1})
    tables.add_report("0000", report(300, 2.0, 0, mfu=0.25))
    tables.add_report("0000", report(600, mfu=0.5))
    results = load_results(tmp_path)
    assert list(results.history["mfu"]) == [0.25, 0.5]
    assert list(results.trials["mfu"]) == [expected]
    assert results.searched == ["x.y"]

"""The methods and regimes that `benchmarks.search_efficiency` compares."""

from pathlib import Path

SEARCHED = Path(__file__).parents[1] / "search_spaces" / "lr_sched.yaml"

# Overrides of that file. Regimes differ in the budget of a trial alone.
REGIMES = {
    "learning-rate noise": ("training.tokens=6.15G",),
    "shipped budget": ("training.tokens=300M",),
    "under-trained": ("training.tokens=100M",),
}

MID_RUN = "search.rung_metric=raw"
NINTH = "search.rungs=[1/9, 1/3, 1]"
IN_FULL = ("search.scheduler=fifo", "search.rungs=[1]")
METHODS = {
    "raygpt": (),
    "raygpt, a rung at 1/9 as well": (NINTH,),
    "raygpt, averaged weights": ("search.rung_metric=average",),
    "raygpt, mid-run values": (MID_RUN,),
    "random in full": (*IN_FULL, "search.sampler=random"),
    "TPE in full": IN_FULL,
    # With Ray's own defaults, as users usually combine the two: trials are judged in mid-schedule.
    "OptunaSearch, ASHA": (MID_RUN,),
    "OptunaSearch, ASHA from 1/9": (MID_RUN, NINTH),
}
DEFAULT, REFERENCE = "raygpt", "random in full"
STOCK = ("OptunaSearch, ASHA", "OptunaSearch, ASHA from 1/9")
"""Methods that run on Ray's own searcher and scheduler."""

AT_ONCE = 8
"""Trials that run at the same time."""

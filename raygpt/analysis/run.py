"""A run's results with their figures, for notebooks.

The tables (`raygpt.results`) do not import any plotting; this class adds the figures, so that
imports go one way.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from raygpt.errors import UserError
from raygpt.recipe.errors import allowed
from raygpt.recipe.fields import full_name
from raygpt.recipe.ranges import Range
from raygpt.results import tables
from raygpt.results.tables import Results

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


class Run(Results):
    """`Results` with methods that make plotly figures of them.

    `trials`, `history`, `best` and `conclusions` are those of `Results`. Names of searched values
    may be given without their section: "hold" for "training.hold". A notebook shows a figure that
    is the last value of a cell; `figure.write_html(path)` saves one. Hover over a point or a curve
    to read its trial and values.
    """

    @property
    def ranges(self) -> Mapping[str, Range]:
        """The searched ranges, by dotted name; empty if they are not known."""
        return self.search_file.ranges if self.search_file else {}

    @cached_property
    def importance(self) -> "pd.DataFrame":
        """How much each searched value mattered; see `analysis.importance.importance`.

        Raises:
            UserError: nothing was searched, or too few trials have ended.
        """
        from raygpt.analysis.importance import importance

        return importance(self, self.ranges)

    def plot_curves(self, trials: Iterable[str] | None = None) -> "Figure":
        """Bits per byte over tokens, with rungs, stops and cooldowns.

        Args:
            trials: trial_ids to show; all if left out.
        """
        from raygpt.analysis.curves import learning_curves

        return learning_curves(self, trials)

    def plot_learning_rates(self, trials: Iterable[str] | None = None) -> "Figure":
        """Learning rates over tokens.

        Args:
            trials: trial_ids to show; all if left out.
        """
        from raygpt.analysis.curves import learning_rates

        return learning_rates(self, trials)

    def plot_importance(self) -> "Figure":
        """How much each searched value mattered, with intervals and the level of chance.

        Raises:
            UserError: nothing was searched, or too few trials have ended.
        """
        from raygpt.analysis.importance import importance_bars

        return importance_bars(self.importance)

    def plot_slices(self, names: Sequence[str] | None = None) -> "Figure":
        """Bits per byte over one searched value at a time.

        Args:
            names: names of the values; all if left out.
        """
        from raygpt.analysis.slices import slices

        return slices(self, self.ranges, names and [self._full_name(name) for name in names])

    def plot_contour(self, x: str, y: str) -> "Figure":
        """Bits per byte over two searched values at once.

        Args:
            x: name of the value on the horizontal axis.
            y: name of the value on the vertical axis.

        Raises:
            UserError: there is no such value, or it is not a number.
        """
        from raygpt.analysis.contours import contour

        return contour(self, self.ranges, self._full_name(x), self._full_name(y))

    def plot_parallel_coordinates(self) -> "Figure":
        """A line for each trial, through all of its values to its place on the leaderboard."""
        from raygpt.analysis.parallel import parallel_coordinates

        return parallel_coordinates(self, self.ranges)

    def plot_confirmation(self) -> "Figure":
        """Means with 95% intervals of the configurations that were confirmed.

        Raises:
            UserError: nothing was confirmed.
        """
        from raygpt.analysis.confirmed import confirmed_means

        return confirmed_means(self)

    def _full_name(self, name: str) -> str:
        if full := full_name(name, self.searched):
            return full
        raise UserError(f"{name}: this value was not searched; {allowed(name, self.searched)}")


def load_results(folder: str | Path) -> Run:
    """The results of a run, whether it has finished, is running or was killed.

    Args:
        folder: the run folder, such as runs/lr_sched.

    Raises:
        UserError: the folder is not a run folder, or its tables cannot be read.
    """
    found = tables.load_results(folder)
    return Run(found.folder, found.trials, found.history)

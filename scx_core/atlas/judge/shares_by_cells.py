"""How verdict shares move with the number of cells: the sums of the pass, looked at on the way.

Cells come in a random order, so those seen so far are a fair sample. Each look is of the reporting half of
the cells, as the shares are, and with the thresholds of the whole pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from scx_core.atlas.collect.one_pass import Passed
from scx_core.atlas.judge.figures_of_units import lexicon
from scx_core.atlas.judge.protocol import Thresholds, criterion_shares
from scx_core.atlas.tables.build import figures_of, with_context

LOOKS = (60, 120, 240, 480, 960, 1920, 3840)  # cells, as far as there are more in the pass


class Curve:
    """Looks at some sources after `LOOKS` cells. `watched` goes into the pass."""

    def __init__(self, sources: Sequence[str], n_cells: int) -> None:
        self._sources = tuple(sources)
        self._seen: dict[int, dict[str, pd.DataFrame]] = {}
        self.watched: Mapping[int, Callable[[Passed], None]] = {n: self._look for n in LOOKS if n < n_cells}

    def _look(self, passed: Passed) -> None:
        words = lexicon(passed.slots.table())
        found = {name: figures_of(passed, name, words) for name in self._sources}
        self._seen[sum(passed.counts.cells)] = found

    def table(
        self,
        passed: Passed,
        whole: Mapping[str, pd.DataFrame],
        limits: Thresholds,
        contexts: Mapping[str, pd.DataFrame],
    ) -> pd.DataFrame:
        """Rows cells, source, layer (−1: all), measure, share, features (live ones). `whole` are the figures
        of every source after the last cell; `contexts` what was found by exchanging genes, once."""
        early = {
            cells: {name: with_context(figures, contexts.get(name)) for name, figures in by_source.items()}
            for cells, by_source in self._seen.items()
        }
        seen = early | {sum(passed.counts.cells): whole}
        parts = [
            criterion_shares(figures, limits).assign(cells=cells, source=name)
            for cells, by_source in sorted(seen.items())
            for name, figures in by_source.items()
        ]
        table = pd.concat(parts, ignore_index=True)
        return table[["cells", "source", "layer", "measure", "share", "features"]]

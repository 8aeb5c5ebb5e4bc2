"""Cells, model and set of a job, each opened once when it is needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from scx_core.cells import CellTable, open_cells
from scx_core.circuits import Tracer, make_tracer
from scx_core.language import Language, load_language
from scx_core.transcoders import TranscoderSet, load_set
from scx_core.transcoders.check import opened_as_is
from scx_core.transcoders.sources import Sources


class Opened:
    """The sources of a job, each opened when it is first asked for; `root` is the runs folder, `folder` that
    of the job, for what is known before it is done."""

    def __init__(self, sources: Sources, root: Path, folder: Path | None = None) -> None:
        self.sources, self.root, self.folder = sources, root, folder

    @cached_property
    def table(self) -> CellTable:
        """The cells. Raises ScxError when they cannot be opened."""
        return open_cells(self.sources.data, self.sources.cells)

    @cached_property
    def lm(self) -> Language:
        """The model. Raises ScxError."""
        return load_language(self.sources.model, self.sources.device)

    @cached_property
    def coders(self) -> TranscoderSet:
        """The set, where the model is and in its precision. Raises ScxError."""
        return self.another_set(self.sources.transcoders)

    def another_set(self, source: str) -> TranscoderSet:
        """A set for this model, opened as that of the job is. Raises ScxError."""
        found = load_set(source, self.lm.device, self.lm.dtype)
        return opened_as_is(self.lm, found) if self.sources.as_is else found

    @cached_property
    def tracer(self) -> Tracer:
        """All three put together, with an atlas' names of the features where there is one. Raises ScxError
        when they do not fit."""
        from scx_core.atlas.feature_naming import name_book

        made_from = {"model": self.lm, "transcoders": self.coders, "data": self.table}
        return make_tracer(self.lm, self.coders, self.table, name_book(made_from, self.root))

"""Settings of a build: all that it needs to start again is this configuration on disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from scx_core.build.recipe import RecipeConfig
from scx_core.cells import CellChoices
from scx_core.runs import option
from scx_core.sentences import SentenceConfig


@dataclass(frozen=True)
class BuildConfig:
    """A small model for some cells, with its transcoders."""

    data: str = option("embedded", "Path of the cells, or embedded")
    name: str = option("", "Name of the model (default: that of the data)")
    device: str = option("auto", "auto, cpu, cuda or cuda:N")
    presets: str = option(
        "recommended", "Presets of transcoders to train, separated by commas; the first is the default"
    )
    held_out: float = option(
        0.1, "Share of the cells that test: figures come from them", minimum=0.01, maximum=0.9
    )
    choose: float = option(
        0.05,
        "Share of the cells that choose: checkpoints, thresholds, recipes (0: none)",
        minimum=0.0,
        maximum=0.8,
    )
    split_by: str = option("stratified", "How cells are held out", choices=("stratified", "random", "donor"))
    split_seed: int = option(0, "Seed of the split", minimum=0)
    cells: CellChoices = field(default_factory=CellChoices)
    sentences: SentenceConfig = field(default_factory=SentenceConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)

    @property
    def preset_names(self) -> tuple[str, ...]:
        """The presets in order."""
        return tuple(name.strip() for name in self.presets.split(",") if name.strip())

"""Settings of a build, all that it needs to start again, and those of the two models that ship."""

from __future__ import annotations

from dataclasses import dataclass, field

from scx_core.build.recipe import RecipeConfig
from scx_core.cells import PLANTED, CellChoices
from scx_core.runs import option
from scx_core.sentences import SentenceConfig

PLANTED_NAME = "scX planted (simulated)"


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
    transcoder_steps: int = option(0, "Steps of each set of transcoders (0: as its preset says)", minimum=0)
    measured_cells: int = option(
        0, "Test cells that each set is measured on, at most, drawn with the split's seed (0: all)", minimum=0
    )
    atlas: bool = option(True, "Also say what each feature of the first set responds to")
    split_by: str = option("stratified", "How cells are held out", choices=("stratified", "random", "donor"))
    split_seed: int = option(0, "Seed of the split", minimum=0)
    cells: CellChoices = field(default_factory=CellChoices)
    sentences: SentenceConfig = field(default_factory=SentenceConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)

    @property
    def preset_names(self) -> tuple[str, ...]:
        """The presets in order."""
        return tuple(name.strip() for name in self.presets.split(",") if name.strip())


EMBEDDED_RECIPE = RecipeConfig(
    layers=3,
    heads=1,
    residual="sequential",
    activation="relu",
    mlp_start=4.0,
    vocabulary=400,
    readings=12_000,
    batch=8,
    learning_rate=1.5e-3,
    answer_weight=12.0,
)


def embedded_config() -> BuildConfig:
    """How the embedded model and its two sets of transcoders are made.

    The recipe was chosen on a part of the training cells (docs/recipes.md). A small vocabulary spells a gene
    in three or four tokens, as a real checkpoint does; with one head a block and ReLU that starts away from
    zero, it is the MLPs that must put the pieces together.
    """
    return BuildConfig(
        presets="recommended,paper",
        sentences=SentenceConfig(n_genes=80),
        recipe=EMBEDDED_RECIPE,
    )


def planted_config(readings: int = 40_000) -> BuildConfig:
    """How the shipped planted model (of simulated cells) is made; fewer `readings` make a worse one sooner.

    Its attention patterns are a plain mean, so whatever combines genes lies in the MLPs: a model that may
    learn its patterns does these rules in them, and linear maps then stand in for its MLPs without a loss
    (measured: 0.998 of the CE, all labels the same). A fifth rule, A or B but not both, was not learned in
    48,000 readings of 8,000 cells: the model took the passenger's 80%.
    """
    return BuildConfig(
        data=PLANTED,
        name=PLANTED_NAME,
        sentences=SentenceConfig(n_genes=36),
        recipe=RecipeConfig(
            width=64,
            layers=2,
            residual="sequential",
            activation="relu",
            attention="uniform",
            mlp_start=4.0,
            vocabulary=700,
            readings=readings,
            batch=32,
            learning_rate=3e-3,
            weight_decay=0.01,
            dropout=0.0,
            gene_dropout=0.0,
            answer_weight=100.0,
        ),
    )

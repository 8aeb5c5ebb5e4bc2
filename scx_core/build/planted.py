"""The planted model: a small one for the simulated cells, built by the same code as any other.

Its attention patterns are a plain mean, so whatever combines genes lies in the MLPs: a model that may learn
its patterns does these rules in them, and linear maps then stand in for its MLPs without a loss (measured:
0.998 of the CE, all labels the same). A fifth rule, A or B but not both, was not learned within 48,000
readings of 8,000 cells: the model took the passenger's 80%.
"""

from __future__ import annotations

from scx_core.build.config import BuildConfig
from scx_core.build.recipe import RecipeConfig
from scx_core.cells import PLANTED
from scx_core.sentences import SentenceConfig

PLANTED_NAME = "scX planted (simulated)"


def planted_config(readings: int = 40_000) -> BuildConfig:
    """How the shipped planted model is made; fewer `readings` make a worse one sooner."""
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

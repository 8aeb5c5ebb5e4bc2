"""What an atlas is asked to hold."""

from __future__ import annotations

from dataclasses import dataclass

from scx_core.runs import option
from scx_core.runs.options import check


@dataclass(frozen=True)
class AtlasConfig:
    """Sizes of what is kept of each feature, and the seed of all that is drawn."""

    cells: int = option(0, "Cells, drawn with the seed; 0 takes all", minimum=0)
    batch: int = option(8, "Cells at a time", minimum=1)
    examples: int = option(10, "Strongest examples kept of each feature, one a cell", minimum=1, maximum=100)
    samples: int = option(10, "Examples drawn at random among all", minimum=0, maximum=100)
    before: int = option(10, "Tokens of context in front of an example", minimum=0, maximum=200)
    after: int = option(5, "Tokens of context behind it", minimum=0, maximum=200)
    genes: int = option(50, "Genes kept of each feature", minimum=5, maximum=10_000)
    pushed: int = option(10, "Output tokens kept of each feature", minimum=1, maximum=1000)
    baseline: bool = option(True, "Also collect the raw MLP neurons, the dense baseline")
    random: int = option(
        3, "Draws of random directions at the features' firing rates; with any of them also the embedding's "
        "directions and the one-hot of the token", minimum=0, maximum=50,
    )  # fmt: skip
    context: int = option(
        28, "Cells whose genes are exchanged, to find features that read other genes than the one they stand "
        "at; 0: none", minimum=0,
    )  # fmt: skip
    seed: int = option(0, "Seed of halves, shuffles and samples", minimum=0)

    def __post_init__(self) -> None:
        check(self)

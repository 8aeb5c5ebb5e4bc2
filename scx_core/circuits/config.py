"""Settings of a trace; one definition for Python, the command line, the page and the saved JSON."""

from __future__ import annotations

from dataclasses import dataclass

from scx_core.runs.options import option


@dataclass(frozen=True)
class TraceConfig:
    """How one cell is traced."""

    target: str = option(
        "auto",
        "Explain the log-odds of the whole answer against its competitors (answer), its decision token "
        "against theirs (contrast), that token's logit or log-probability alone, or the logit of any one "
        "token at the same place; auto: contrast where one token parts the answer from all competitors and "
        "is no other label's, else answer",
        choices=("auto", "answer", "contrast", "logit", "logprob", "token"),
    )
    token: str = option("", "With the target token: its text, or its number in the vocabulary")
    nodes: int = option(384, "Features that may become nodes, chosen before the cut", minimum=1)
    choice: str = option(
        "influence",
        "They are those with the most influence on the target, or with the largest total effect",
        choices=("influence", "effect"),
    )
    node_share: float = option(
        0.8, "Keep the fewest nodes with this share of the influence", minimum=0.0, maximum=1.0
    )
    edge_share: float = option(
        0.98, "Keep the fewest edges with this share of their score", minimum=0.0, maximum=1.0
    )


@dataclass(frozen=True)
class ConsensusConfig:
    """How the circuit of a cell type is made from many cells."""

    cells: int = option(30, "Cells of the type, drawn with the seed", minimum=2)
    min_share: float = option(
        0.3, "Keep features and edges that this share of the cells holds", minimum=0.0, maximum=1.0
    )
    nodes: int = option(192, "Features a cell that may become nodes", minimum=1)
    choice: str = option(
        "effect",
        "They are those with the largest total effect (faster), or with the most influence; the features "
        "that many cells share are nearly the same",
        choices=("effect", "influence"),
    )
    seed: int = option(0, "Seed that draws the cells and the bootstrap", minimum=0)

"""What a renderer gets: placed boxes, coloured links, and every word around them.

Units: 1 is 0.18 mm in print (a double column of 180 mm is 1000 wide, a single one of 85 mm is 472) and
about a pixel on screen. A drawing of the size "screen" has no text below 13.3 units, so that a picture that
is 1055 pixels wide (beside a card, at 1920) has none below 14 pixels. x grows to the right, y grows
downwards, (x, y) is the centre of a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from scx_core.runs.options import check, option

PlacedKind = Literal["target", "against", "feature", "error", "bias", "gene", "prompt", "bos", "more"]
MM_PER_UNIT = 0.18
WIDTHS = {"wide": 1000.0, "column": 472.0, "screen": 1000.0}
FITS = {"wide": (24, 32, 110), "column": (10, 12, 40), "screen": (18, 18, 80)}


@dataclass(frozen=True)
class View:
    """How much of a circuit is drawn, and how."""

    size: Literal["wide", "column", "screen"] = option(
        "wide", "Wide: a double column. Column: a single column. Screen: fewer boxes, larger words."
    )
    max_genes: int = option(0, "Most genes drawn; 0 is as many as the size shows legibly.", minimum=0)
    max_features: int = option(0, "Most features drawn; 0 as above.", minimum=0)
    max_edges: int = option(0, "Most arrows drawn (a node's strongest always is); 0 as above.", minimum=0)
    min_edge_share: float = option(
        0.02, "Leave out arrows that carry less than this share of a node's input.", minimum=0.0, maximum=1.0
    )
    min_cell_share: float = option(
        0.0,
        "In a consensus: leave out what fewer than this share of the cells hold.",
        minimum=0.0,
        maximum=1.0,
    )
    show_errors: bool = option(False, "Draw the reconstruction errors, one grey diamond a layer.")
    show_bias: bool = option(False, "Draw the biases as a small square.")
    colour_by: Literal["effect", "share"] = option("effect", "What the colour of a gene shows.")

    def __post_init__(self) -> None:
        check(self)

    @property
    def limits(self) -> tuple[int, int, int]:
        """Most genes, features and links that are drawn."""
        fits = FITS[self.size]
        asked = (self.max_genes, self.max_features, self.max_edges)
        return tuple(want or fit for want, fit in zip(asked, fits, strict=True))  # type: ignore[return-value]


class Placed(NamedTuple):
    """One box: gene, feature, error, bias, prompt, "and n more", the cell type or its competitor.

    `label` is the main line and `below` the small line under it, both plain text. `marker`: carries the
    badge of a known marker. `hover`: lines of plain text, the first is the heading. `layer` of a feature or
    an error, None for all else.
    """

    id: str
    kind: PlacedKind
    label: str
    below: str
    x: float
    y: float
    width: float
    height: float
    font: float
    fill: str
    line: str
    ink: str
    marker: bool
    hover: tuple[str, ...]
    layer: int | None = None


class Link(NamedTuple):
    """One arrow. `weight`: the signed direct edge. `strength`: share of the target's input through it."""

    source: str
    target: str
    weight: float
    strength: float
    width: float
    colour: str
    opacity: float
    hover: tuple[str, ...]


class Row(NamedTuple):
    """The name of a row, written in the left margin at height `y`."""

    label: str
    y: float


class WidthKey(NamedTuple):
    """One sample line of the legend: its width and what it stands for."""

    width: float
    label: str


class Drawing(NamedTuple):
    """A circuit ready to be drawn; all renderers draw exactly this.

    `notes` say what is not shown; `effect_limit` is the effect at full colour, in `unit`.
    `signs` say what warm, cool and grey lines mean; `explained`: the circuit in five plain sentences.
    """

    width: float
    height: float
    nodes: tuple[Placed, ...]
    links: tuple[Link, ...]
    rows: tuple[Row, ...]
    title: str
    subtitle: str
    scores: str
    notes: tuple[str, ...]
    caption: str
    provenance: str
    width_key: tuple[WidthKey, ...]
    effect_limit: float
    unit: str
    colour_by: str
    explained: tuple[str, ...] = ()
    signs: tuple[str, str, str] = ("raises what it points to", "lowers it", "")

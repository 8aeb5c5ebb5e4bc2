"""Node ids as they stand in a circuit's JSON, turned into places of a frozen prompt."""

from __future__ import annotations

from typing import Literal, NamedTuple

from scx_core.attribution.local_replacement_model import FrozenPrompt
from scx_core.errors import ScxError

RefKind = Literal["feature", "error", "embedding", "target"]
_SHAPES: dict[str, tuple[RefKind, int]] = {"f": ("feature", 3), "e": ("error", 2), "t": ("embedding", 1)}
REMEDY = (
    "Ids are f:layer:position:feature, e:layer:position, t:position and target, as in the JSON of a cell."
)


class Ref(NamedTuple):
    """One node of a prompt's graph. A feature has a layer, position and number; the target has none, but may
    stand for one of its rows (see `Rows`)."""

    kind: RefKind
    layer: int = -1
    position: int = -1
    feature: int = -1
    row: int = 0

    @property
    def id(self) -> str:
        """The id in the JSON."""
        if self.kind == "feature":
            return f"f:{self.layer}:{self.position}:{self.feature}"
        if self.kind == "error":
            return f"e:{self.layer}:{self.position}"
        return f"t:{self.position}" if self.kind == "embedding" else "target"


def parse_ref(text: str, frozen: FrozenPrompt) -> Ref:
    """The node that an id names. Raises ScxError for an id of another form or outside this prompt."""
    if text == "target":
        return Ref("target")
    letter, *rest = text.split(":")
    kind, n = _SHAPES.get(letter, ("target", -1))
    if len(rest) != n or not all(part.isdecimal() for part in rest):
        raise ScxError(f"{text[:80]!r} is not the id of a node that gives or takes input here.", REMEDY)
    numbers = [int(part) for part in rest]
    if kind == "embedding":
        ref = Ref(kind, position=numbers[0])
    elif kind == "error":
        ref = Ref(kind, numbers[0], numbers[1])
    else:
        ref = Ref(kind, *numbers)
    if ref.position >= frozen.n_positions or ref.layer >= len(frozen.layers):
        raise ScxError(
            f"{text[:80]} lies outside the prompt.",
            f"It has positions 0 to {frozen.n_positions - 1} and layers 0 to {len(frozen.layers) - 1}.",
        )
    return ref


def place_of(frozen: FrozenPrompt, ref: Ref) -> int:
    """Index of a feature among the active ones of its layer. Raises ScxError when it is not active there."""
    layer = frozen.layers[ref.layer]
    found = ((layer.position_N == ref.position) & (layer.feature_N == ref.feature)).nonzero()[:, 0]
    if not len(found):
        raise ScxError(
            f"Feature {ref.feature} of layer {ref.layer} is not active at position {ref.position}.",
            "Choose a feature of this cell's circuit.",
        )
    return int(found[0])

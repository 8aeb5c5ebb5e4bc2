"""The validation table (method §3) as plain numbers, and its JSON."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from scx_core.transcoders import Form


class LayerRow(NamedTuple):
    """One layer. `ce`, `ce_zero`, `kl`, `ce_recovered` with only this layer's MLP replaced (nan when that was
    not asked for); `fvu`, `l0`, `dead`, `prompt_mass`, `gene_features` on the original model's activations.

    `prompt_mass` is the share of activation mass on prompt words and punctuation (position 0 left out),
    `gene_features` the share of firing features with most of their mass on genes.
    """

    layer: int
    ce: float
    ce_zero: float
    kl: float
    ce_recovered: float
    fvu: float
    l0: float
    dead: float
    prompt_mass: float
    gene_features: float


class ClassRow(NamedTuple):
    """One token class. Losses are of predicting such a token, `l0` of reading one (mean of the layers)."""

    n_tokens: int
    ce_orig: float
    ce_transcoder: float
    ce_zero: float
    ce_mean: float
    ce_recovered: float
    kl: float
    l0: float


class Confusion(NamedTuple):
    """Held-out cells by true label (rows) and predicted label (columns), both in the order of `labels`."""

    labels: tuple[str, ...]
    original: tuple[tuple[int, ...], ...]
    transcoder: tuple[tuple[int, ...], ...]


class Caution(NamedTuple):
    """A warning in plain words: which sign was seen, in which layers, and what to do about it."""

    sign: str
    layers: tuple[int, ...]
    text: str
    remedy: str


class Validation(NamedTuple):
    """How well a transcoder set stands in for the MLPs of a model on held-out cells (method §3).

    All over the `n_tokens` predicted tokens of prompt + true answer + end-of-text, every MLP replaced at
    once, in nats, never clipped. `ce_mean` replaces each MLP's output by its mean over these same tokens.
    `fvu` and `l0` are means of the layers, `dead` is the share of all features that were never active on the
    `n_tokens`, `live_share` of those that fire more often than once in 10,000 tokens; these four are taken on
    the original model's activations, the ones that a trace freezes. `form` says what stands in: transcoders,
    SAEs (given each MLP's output) or cross-layer transcoders. Undefined ratios are nan (null in JSON).
    """

    n_cells: int
    n_tokens: int
    ce_orig: float
    ce_transcoder: float
    ce_zero: float
    ce_mean: float
    ce_recovered: float
    kl: float
    l0: float
    fvu: float
    dead: float
    live_share: float
    n_features: int
    label_accuracy_orig: float
    label_accuracy_transcoder: float
    label_agreement: float
    per_layer: tuple[LayerRow, ...]
    by_token_class: dict[str, ClassRow]
    confusion: Confusion
    warnings: tuple[Caution, ...]
    provenance: dict[str, Any]
    form: Form = "transcoder"

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers; nan becomes None, because JSON has no nan."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def recovered(ce_zero: float, ce_transcoder: float, ce_orig: float) -> float:
    """Share of the loss that the transcoders win back, `(zero − transcoder) / (zero − original)` (method §3).

    1 is perfect, 0 as bad as no MLP, negative worse; nan when removing the MLPs changes nothing.
    """
    return (ce_zero - ce_transcoder) / (ce_zero - ce_orig) if ce_zero != ce_orig else float("nan")

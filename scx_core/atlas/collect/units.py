"""Unit sources: whatever turns an MLP's input and output into activations that mean something each.

Legend: B cells of a batch, T positions, N counted tokens, d residual width, F units, H neurons.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

from scx_core.atlas.collect.active import Active, Matrix, Pairs, pairs_above
from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.language.weights import neuron_writes
from scx_core.metrics import active
from scx_core.training.ops.sparse import select_tokens
from scx_core.transcoders import CrossLayerSet, TranscoderSet
from scx_core.transcoders.check import check_set


class MlpAt(NamedTuple):
    """One MLP in a batch: input and output [B, T, d]; the neurons [B, T, H] when a source wants them.
    `row_N` are the tokens that count, as numbers of the batch's B · T places, `id_N` their token ids."""

    input_BTd: torch.Tensor
    output_BTd: torch.Tensor
    neurons_BTH: torch.Tensor | None
    row_N: torch.Tensor
    id_N: torch.Tensor


class UnitReader(Protocol):
    """What can be read as units. Activations are sizes, |z|; 0 is "not active".

    `wants_neurons`: `read` needs `neurons_BTH`. `fingerprint` identifies the weights.
    """

    @property
    def kind(self) -> str:
        """ "transcoder", "sae", "cross-layer", "neurons", or a baseline's."""
        ...

    @property
    def name(self) -> str:
        """Short name for people."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 of the weights, "" when they were never saved."""
        ...

    @property
    def n_units(self) -> int:
        """F of every layer."""
        ...

    @property
    def wants_neurons(self) -> bool:
        """Whether `read` needs the neurons."""
        ...

    def read(self, layer: int, at: MlpAt) -> Active:
        """What is active at the tokens: pairs where few units are, else a matrix."""
        ...


class UnitSource(UnitReader, Protocol):
    """Units that the model's stream is written by: what the atlas describes. Baselines only read."""

    def writes(self, layer: int) -> torch.Tensor:
        """What each unit adds to the outputs of MLPs when its activation is 1, [F, d]: to that of its layer,
        and of those later ones that it writes to, together."""
        ...


class CoderUnits:
    """Features of transcoders, of SAEs where the set reads the MLP's output, or of a cross-layer set."""

    wants_neurons = False

    def __init__(self, lm: Language, transcoders: TranscoderSet) -> None:
        check_set(lm, transcoders)
        if transcoders.form == "cross-layer" and lm.facts.family.mlp_post_norm:
            raise ScxError(
                f"The model {lm.name} has a norm behind each MLP: what a cross-layer feature writes to "
                "several of them has no sum that holds for every cell.",
                "Choose a set whose features write to their own layer.",
            )
        self._set = transcoders.to(lm.device)
        self._reads_output = transcoders.reads == "output"
        self.kind: str = transcoders.form
        self.name, self.fingerprint = transcoders.name, transcoders.fingerprint
        self.n_units = transcoders.n_features

    def read(self, layer: int, at: MlpAt) -> Pairs:
        """The active features of every token."""
        coder = self._set.layers[layer]
        x_BTd = at.output_BTd if self._reads_output else at.input_BTd
        pre_NF = coder.pre(x_BTd.flatten(0, 1)[at.row_N])
        if coder.kind == "topk":
            kept = select_tokens(pre_NF, min(coder.k or 0, self.n_units))
            return Pairs(kept.pattern.token_N, kept.pattern.feature_N, kept.value_N, *pre_NF.shape)
        if coder.threshold_F is None:
            return pairs_above(pre_NF, 0.0)
        found = pairs_above(pre_NF, coder.threshold_F)
        return found if bool((coder.threshold_F >= 0).all()) else _sizes(found)

    def writes(self, layer: int) -> torch.Tensor:
        """W_dec [F, d]; of a cross-layer set the sum over the layers written to, as the residual stream has
        it in the end."""
        W_Fd = self._set.layers[layer].W_dec_Fd
        return W_Fd + self._set.cross[layer].sum(0) if isinstance(self._set, CrossLayerSet) else W_Fd


def _sizes(found: Pairs) -> Pairs:
    """The active pairs and how large they are. A threshold below 0 lets negative activations through; what
    is exactly 0 is not active."""
    on_E = active(found.value_E)
    return Pairs(
        found.token_E[on_E], found.unit_E[on_E], found.value_E[on_E].abs(), found.n_tokens, found.n_units
    )


class NeuronUnits:
    """Raw MLP neurons, the dense baseline: the positive part of what the MLP's last map receives."""

    kind = name = "neurons"
    wants_neurons = True

    def __init__(self, lm: Language) -> None:
        self._lm = lm
        self.fingerprint = lm.fingerprint
        self.n_units = neuron_writes(lm, 0).shape[0]

    def read(self, layer: int, at: MlpAt) -> Matrix:
        """The neurons; their positive part counts."""
        assert at.neurons_BTH is not None  # asked for by wants_neurons
        return Matrix(at.neurons_BTH.flatten(0, 1), at.row_N)

    def writes(self, layer: int) -> torch.Tensor:
        """Columns of the MLP's last map, as rows [H, d]."""
        return neuron_writes(self._lm, layer)

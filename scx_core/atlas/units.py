"""Unit sources: whatever turns an MLP's input and output into activations that mean something each.

Legend: T tokens, d residual width, F units, H neurons.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.language.weights import neuron_writes
from scx_core.transcoders import CrossLayerSet, TranscoderSet


class MlpAt(NamedTuple):
    """One MLP at some tokens: input and output [T, d]; the neurons [T, H] when the source wants them."""

    input_Td: torch.Tensor
    output_Td: torch.Tensor
    neurons_TH: torch.Tensor | None = None


class UnitSource(Protocol):
    """What the atlas needs to know of its units. Activations are ≥ 0; 0 is "not active".

    `dense`: many units are active at every token, so that sums are made by matrix products.
    `wants_neurons`: `read` needs `neurons_TH`. `fingerprint` identifies the weights.
    """

    @property
    def kind(self) -> str:
        """ "transcoder", "sae", "cross-layer" or "neurons"."""
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
    def dense(self) -> bool:
        """Whether most units are active at every token."""
        ...

    @property
    def wants_neurons(self) -> bool:
        """Whether `read` needs the neurons."""
        ...

    def read(self, layer: int, at: MlpAt) -> torch.Tensor:
        """Activations [T, F]."""
        ...

    def writes(self, layer: int) -> torch.Tensor:
        """What each unit adds to the outputs of MLPs when its activation is 1, [F, d]: to that of its layer,
        and of those later ones that it writes to, together."""
        ...


class CoderUnits:
    """Features of transcoders, of SAEs where the set reads the MLP's output, or of a cross-layer set."""

    dense = False
    wants_neurons = False

    def __init__(self, lm: Language, transcoders: TranscoderSet) -> None:
        theirs, ours = (len(transcoders.layers), transcoders.width), (lm.facts.n_layers, lm.facts.width)
        if theirs != ours:
            raise ScxError(
                f"The set is for {theirs[0]} layers of width {theirs[1]}, the model {lm.name} has {ours[0]} "
                f"of width {ours[1]}.",
                "Choose a set that was trained on this model.",
            )
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

    def read(self, layer: int, at: MlpAt) -> torch.Tensor:
        """Activations [T, F] of the features."""
        return self._set.layers[layer].encode(at.output_Td if self._reads_output else at.input_Td)

    def writes(self, layer: int) -> torch.Tensor:
        """W_dec [F, d]; of a cross-layer set the sum over the layers written to, as the residual stream has
        it in the end."""
        W_Fd = self._set.layers[layer].W_dec_Fd
        return W_Fd + self._set.cross[layer].sum(0) if isinstance(self._set, CrossLayerSet) else W_Fd


class NeuronUnits:
    """Raw MLP neurons, the dense baseline: the positive part of what the MLP's last map receives."""

    kind = name = "neurons"
    dense = True
    wants_neurons = True

    def __init__(self, lm: Language) -> None:
        self._lm = lm
        self.fingerprint = lm.fingerprint
        self.n_units = neuron_writes(lm, 0).shape[0]

    def read(self, layer: int, at: MlpAt) -> torch.Tensor:
        """Positive part of the neurons [T, H]."""
        assert at.neurons_TH is not None  # asked for by wants_neurons
        return at.neurons_TH.relu()

    def writes(self, layer: int) -> torch.Tensor:
        """Columns of the MLP's last map, as rows [H, d]."""
        return neuron_writes(self._lm, layer)

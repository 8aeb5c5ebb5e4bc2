"""Unit sources: what turns an MLP's input and output into activations, and the decoder vectors of units seen
through the unembedding.

Legend: B cells of a batch, T positions, N counted tokens, d residual width, F units, H neurons, V vocabulary,
n kept tokens, A answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import torch

from scx_core.atlas.collect.active import Active, Matrix, Pairs, pairs_above
from scx_core.errors import ScxError
from scx_core.language import Language, answers_of, decision, linear
from scx_core.language.weights import neuron_writes, norm_weights
from scx_core.metrics import active
from scx_core.runs.micro_batch import MicroBatch
from scx_core.training.ops.sparse import select_tokens
from scx_core.transcoders import CrossLayerSet, TranscoderSet
from scx_core.transcoders.check import check_set


class MlpAt(NamedTuple):
    """One MLP in a batch: input and output [B, T, d]; the neurons [B, T, H] when a source wants them.
    `row_N` are the tokens that count, as rows of the batch's B · T, `id_N` their token ids."""

    input_BTd: torch.Tensor
    output_BTd: torch.Tensor
    neurons_BTH: torch.Tensor | None
    row_N: torch.Tensor
    id_N: torch.Tensor


class UnitReader(Protocol):
    """What can be read as units, `n_units` in every layer; `wants_neurons`: `read` needs `neurons_BTH`, the
    first `n_units` neurons at least."""

    n_units: int
    wants_neurons: bool

    def read(self, layer: int, at: MlpAt) -> Active:
        """What is active at the tokens, |z| > 0: pairs where few units are, else a matrix."""
        ...


def neurons_wanted(sources: Iterable[UnitReader]) -> int:
    """How many neurons of every layer some source wants; 0: none."""
    return max((units.n_units for units in sources if units.wants_neurons), default=0)


class UnitSource(UnitReader, Protocol):
    """Units that write to the residual stream: what the atlas describes. Baselines only read.

    `kind` is "transcoder", "sae", "cross-layer" or "neurons", `name` a short name for people, `fingerprint`
    the sha256 of the weights, "" when they were never saved.
    """

    kind: str
    name: str
    fingerprint: str

    def writes(self, layer: int) -> torch.Tensor:
        """Decoder vectors [F, d]: what each unit adds to the outputs of MLPs when its activation is 1, to
        that of its layer and of those later ones that it writes to, together."""
        ...


class CoderUnits:
    """Features of transcoders, of SAEs where the set reads the MLP's output, or of a cross-layer set."""

    wants_neurons: bool = False

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
        if bool((coder.threshold_F >= 0).all()):
            return found
        # A threshold below 0 lets negative activations through; what is exactly 0 is not active.
        on_E = active(found.value_E)
        parts = found.token_E[on_E], found.unit_E[on_E], found.value_E[on_E].abs()
        return Pairs(*parts, found.n_tokens, found.n_units)

    def writes(self, layer: int) -> torch.Tensor:
        """W_dec [F, d]; of a cross-layer set the sum over the layers written to, as the residual stream has
        it in the end."""
        W_Fd = self._set.layers[layer].W_dec_Fd
        return W_Fd + self._set.cross[layer].sum(0) if isinstance(self._set, CrossLayerSet) else W_Fd


class NeuronUnits:
    """Raw MLP neurons, the dense baseline: the positive part of what the MLP's last map receives. At most the
    first `most` of every layer: neurons have no order, so the first are as good a sample as any, and each
    keeps its number. `of_units`: how many a layer has."""

    kind = name = "neurons"
    wants_neurons = True

    def __init__(self, lm: Language, most: int | None = None) -> None:
        self._lm = lm
        self.fingerprint = lm.fingerprint
        self.of_units = neuron_writes(lm, 0).shape[0]
        self.n_units = self.of_units if most is None else min(most, self.of_units)

    def read(self, layer: int, at: MlpAt) -> Matrix:
        """The neurons; their positive part counts."""
        assert at.neurons_BTH is not None  # asked for by wants_neurons
        return Matrix(at.neurons_BTH[..., : self.n_units].flatten(0, 1), at.row_N)

    def writes(self, layer: int) -> torch.Tensor:
        """Columns of the MLP's last map, as rows [H, d]."""
        return neuron_writes(self._lm, layer)[: self.n_units]


BLOCK = 20_000_000  # logits that exist at a time


class Pushed(NamedTuple):
    """Of every unit the `n` tokens that it pushes most and the n that it pushes down most (token ids and
    weights, [F, 2n], the strongest push first), and its weight for every answer [F, answers]."""

    token_Fn: torch.Tensor
    weight_Fn: torch.Tensor
    answer_FA: torch.Tensor


@torch.no_grad()
def pushed(lm: Language, units: UnitSource, layer: int, n: int, labels: Sequence[str]) -> Pushed:
    """The output tokens and answers that each unit of a layer moves, from the weights alone (method §7).

    A decoder vector goes through the gain of the norm behind the MLP, where there is one, and that of the
    last norm; every 1/σ is left out, so weights compare within a layer's features and not between layers.
    Weights are less their mean over the vocabulary, which moves no probability. An answer's weight is
    that of its decision token, less the mean of its competitors' there (method §4); nan where two
    answers cannot be told apart.
    """
    family = lm.facts.family
    W_U_Vd = norm_weights(family.norm, lm.final_norm).fold(lm.unembedding).float()
    decoder_Fd = units.writes(layer).to(lm.dtype)
    if family.mlp_post_norm:
        decoder_Fd = norm_weights(family.norm, lm.part(layer, "mlp_post_norm")).fold_behind(decoder_Fd)
    n = min(n, len(W_U_Vd))
    # for each answer its decision token and the competitors' tokens there
    answers = answers_of(lm, labels, lm.prompt.lead if lm.prompt.lead is not None else " ")
    wanted = {}
    for a, label in enumerate(labels):
        try:
            at = decision(answers, label)
        except ScxError:  # spelled like another one, or the only answer
            continue
        wanted[a] = (at.token, list(at.competing))

    def some(part: slice) -> tuple[torch.Tensor, ...]:
        logit_FV = linear(decoder_Fd[part].float(), W_U_Vd)
        logit_FV -= logit_FV.mean(1, keepdim=True)
        high, low = logit_FV.topk(n, dim=1), logit_FV.topk(n, dim=1, largest=False)
        answer_FA = torch.full((len(logit_FV), len(labels)), torch.nan, device=logit_FV.device)
        for a, (token, others) in wanted.items():
            answer_FA[:, a] = logit_FV[:, token] - logit_FV[:, others].mean(1)
        tokens = torch.cat([high.indices, low.indices.flip(1)], 1)
        return tokens.cpu(), torch.cat([high.values, low.values.flip(1)], 1).cpu(), answer_FA.cpu()

    step = max(1, BLOCK // len(W_U_Vd))
    parts = MicroBatch(units="units' logits").pieces(some, len(decoder_Fd), step)
    return Pushed(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

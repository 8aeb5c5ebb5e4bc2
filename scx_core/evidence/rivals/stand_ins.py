"""Other features than transcoders', as sets that the tracer takes: neurons, SAEs, random directions, none.

- transcoders: the tracer's own set.
- neurons: one feature a neuron, the positive part of what it receives, W_in x + b; its row of W_out is the
  decoder. Of a ReLU MLP the set is the MLP; what another activation adds to the positive part is error, a
  source of its own in the account.
- sae: SAEs of the MLPs' outputs, traced through the MLPs with their gates frozen (through_mlp.py).
- random: directions drawn on the sphere, each at the firing rate of the transcoders' feature of its number;
  decoders by least squares, with an affine path where the transcoders have one.
- linear: the least-squares map of each MLP, traced like a skip term: no features.
Legend: F features, d residual width, N tokens, H neurons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from scx_core.atlas.collect.directions import random_directions, take_sample
from scx_core.atlas.collect.one_pass import make_plan
from scx_core.atlas.collect.units import CoderUnits
from scx_core.attribution.replacement_model import replacement
from scx_core.cells import CellTable
from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.evidence.rankings.rankers import linear_tracer
from scx_core.language import Language
from scx_core.language.weights import mlp_weights
from scx_core.runs.progress import Progress, silent
from scx_core.transcoders import Transcoder, TranscoderSet
from scx_core.transcoders.through_mlp import through_mlp
from scx_core.validation import draw_rows, validation_rows
from scx_core.validation.baselines import LinearSums, read_sides

TRANSCODERS, NEURONS, SAE, RANDOM, LINEAR = "transcoders", "neurons", "sae", "random", "linear"
NAMES = {
    TRANSCODERS: "transcoders",
    NEURONS: "neurons",
    SAE: "SAEs",
    RANDOM: "random directions",
    LINEAR: "linear maps",
}
BATCH = 8


@dataclass(frozen=True)
class Fitting:
    """On how many training cells stand-ins are fitted by least squares, and the seed of directions."""

    cells: int
    seed: int


def rival_tracers(
    tracer: Tracer, sae: TranscoderSet | None, fit: Fitting, progress: Progress = silent
) -> dict[str, Tracer]:
    """Tracers by name, the transcoders' first; without `sae` there is none of SAEs, and of a gated MLP none
    of neurons. Stand-ins are fitted on training cells of the set, as far as its split is known."""
    rows = validation_rows(tracer.lm, tracer.transcoders, tracer.table).train
    rows = draw_rows(rows[tracer.table.answers[rows] != ""], fit.cells, fit.seed)
    sets: dict[str, TranscoderSet] = {}
    if tracer.lm.facts.family.mlp_gate is None:
        sets[NEURONS] = neuron_set(tracer.lm)
    if sae is not None:
        sets[SAE] = replace(through_mlp(tracer.lm, sae), folder=None)
    progress(0, 2, "random directions")
    sets[RANDOM] = random_set(tracer.lm, tracer.transcoders, tracer.table, rows, fit.seed)
    found = {TRANSCODERS: tracer}
    for name, coders in sets.items():
        coders = coders.to(tracer.lm.device, tracer.lm.dtype)
        found[name] = replace(tracer, transcoders=coders, rep=replacement(tracer.lm, coders), names=None)
    progress(1, 2, "linear maps")
    found[LINEAR] = replace(linear_tracer(tracer, rows), names=None)
    return found


def neuron_set(lm: Language) -> TranscoderSet:
    """One feature a neuron: the positive part of what it receives, written as the neuron writes.

    Of a ReLU MLP this is the MLP itself. Raises ScxError for a gated MLP, whose neurons are products of two
    maps.
    """
    if lm.facts.family.mlp_gate is not None:
        raise ScxError(
            f"The MLPs of {lm.name} are gated: a neuron is a product of two maps of its input, no feature "
            "with an encoder.",
            "Compare SAEs and random directions.",
        )
    weights = [mlp_weights(lm, layer) for layer in range(lm.facts.n_layers)]
    layers = tuple(Transcoder(one.W_in_Hd, one.b_in_H, one.W_out_Hd, one.b_out_d) for one in weights)
    return TranscoderSet(layers, {"name": "neurons"})


def outputs_set(lm: Language) -> TranscoderSet:
    """Two features a direction of the MLP's output, its positive and its negative part: whatever is kept at
    a mean, the sum is the MLP's output, exactly. It gives the scale on which sets are compared."""
    eye_dd = torch.eye(lm.facts.width, dtype=lm.dtype, device=lm.device)
    both_Fd = torch.cat([eye_dd, -eye_dd])
    layer = Transcoder(both_Fd, torch.zeros_like(both_Fd[:, 0]), both_Fd, torch.zeros_like(both_Fd[0]))
    saes = TranscoderSet((layer,) * lm.facts.n_layers, {"name": "MLP outputs"}, reads="output")
    return through_mlp(lm, saes)


def random_set(
    lm: Language, coders: TranscoderSet, table: CellTable, rows: np.ndarray, seed: int
) -> TranscoderSet:
    """Random directions at the firing rates of `coders` in these cells, and decoders by least squares."""
    sample = take_sample(lm, CoderUnits(lm, coders), table, make_plan(lm, table, rows, seed), BATCH)
    drawn = random_directions(sample, seed)
    skip = all(coder.W_skip_dd is not None for coder in coders.layers)
    closed = [
        Transcoder(
            W_Fd, torch.zeros_like(W_Fd[:, 0]), W_Fd, torch.zeros_like(W_Fd[0]), None, "jumprelu", None, at_F
        )
        for W_Fd, at_F in zip(drawn.W_LFd, drawn.threshold_LF, strict=True)
    ]
    moved = [
        one.to(lm.device, lm.dtype) for one in closed
    ]  # before the fit: a threshold is a value that occurs
    layers = least_squares(lm, moved, table, rows, skip)
    return TranscoderSet(layers, {"name": "random directions"})


@torch.no_grad()
def least_squares(
    lm: Language, coders: list[Transcoder], table: CellTable, rows: np.ndarray, skip: bool
) -> tuple[Transcoder, ...]:
    """The same features with the decoders (and affine paths) that give back MLP outputs best, over all tokens
    of whole texts."""
    sums = [LinearSums() for _ in coders]
    for _, inputs, outputs in read_sides(lm, table, rows, BATCH, silent):
        for total, coder, x_Nd, y_Nd in zip(sums, coders, inputs, outputs, strict=True):
            z_NF = coder.encode(x_Nd)
            total.add(torch.cat([z_NF, x_Nd], 1) if skip else z_NF, y_Nd)
    made = []
    for total, coder in zip(sums, coders, strict=True):
        fitted = total.solved()
        assert fitted.W_dd is not None  # a map was fitted
        W_dec_Fd = fitted.W_dd[:, : coder.n_features].T.contiguous()
        W_skip_dd = fitted.W_dd[:, coder.n_features :].contiguous() if skip else None
        made.append(replace(coder, W_dec_Fd=W_dec_Fd, b_dec_d=fitted.b_d, W_skip_dd=W_skip_dd))
    return tuple(made)

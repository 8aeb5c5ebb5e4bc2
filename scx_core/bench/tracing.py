"""How long tracing takes, and how much memory.

`bench_circuits`: what a person waits for on the circuits page: gene effects, one cell's circuit, a consensus.
`bench_410m`: a model of the true Pythia-410m dimensions with random weights, from the folder to a circuit.
`bench_trace`: attribution graphs phase by phase. (a) a trained model, 264 tokens, random TopK-32 transcoders
(33,792 active features at four layers), nodes chosen by influence; (b) the same with the nodes spread evenly
over the layers; (c) random 410m dimensions: 24 layers, 700 tokens, 50 active features a token, 7,500 nodes
spread evenly; on a CPU for a stated share of the rows, from which the seconds for all of them are projected.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from scx_core.attribution.backward import total_effects
from scx_core.attribution.edges import edge_table
from scx_core.attribution.local_replacement_model import FrozenPrompt, freeze
from scx_core.attribution.node_selection import SelectedFeatures, by_influence, largest
from scx_core.attribution.pruning import influence, prune
from scx_core.attribution.replacement_model import Replacement, replacement
from scx_core.attribution.residual_stream import GradientRows, Sources, last_rows
from scx_core.attribution.target import TargetPlan, target_row, vocabulary_weights
from scx_core.bench.edge_checks import edge_checks
from scx_core.bench.machine import Stopwatch, Told, machine, peak_gib, timed, untold, wait
from scx_core.bench.random_410m.made_model import (
    MODEL,
    PYTHIA_410M,
    SET,
    random_language,
    random_layer,
    write_apart,
)
from scx_core.bench.tracing_peer import TargetEdges, peer_traces
from scx_core.cells import CellTable
from scx_core.circuits import ConsensusConfig, TraceConfig, Tracer, make_tracer
from scx_core.circuits.trace import shares, trace_graph
from scx_core.language import load_language
from scx_core.transcoders import Transcoder, TranscoderSet, load_set


def bench_410m(
    folder: Path,
    table: CellTable,
    tokenizer: PreTrainedTokenizerBase,
    device: str = "cpu",
    nodes: int = 384,
    layers: int = PYTHIA_410M["num_hidden_layers"],
    genes: int = 114,
    edges: int = 0,
    consensus: int = 0,
    told: Told = untold,
) -> dict[str, Any]:
    """Load, gene effects and the circuit of one cell; seconds with those of the processor, tokens, the peaks
    of loading and of tracing, and the accounting. Model and set are written to `folder` before, by another
    process, and removed at the end. `edges`: so many of the circuit's, held against autograd in float64.
    `consensus`: also a consensus in two steps of so many cells. `told`: each step as it ends."""
    checks: dict[str, Any] = {}
    try:
        write_apart(folder, tokenizer, table.types, genes, layers)
        watch = Stopwatch(torch.device(device), told)
        lm = load_language(folder / MODEL, device)
        tracer = make_tracer(lm, load_set(folder / SET, lm.device, lm.dtype), table)
        watch.lap("load")
        label = table.types[0]
        tracer.lead  # noqa: B018  # asked of the model once
        watch.lap("form of the answers")
        tracer.gene_effects(0, label)
        watch.lap("gene effects of one cell")
        circuit = tracer.cell(0, label=label, cfg=TraceConfig(nodes=nodes))
        watch.lap("circuit of one cell")
        if edges:
            graph = trace_graph(tracer.rep, tracer.encode([0])[0], tracer.plan(label), nodes)
            checks["edges"] = edge_checks(graph, edges)._asdict()
            del graph
            watch.lap(f"the same and {edges} edges by autograd")
        if consensus:
            cfg = ConsensusConfig(cells=consensus, method="two-steps")
            steps = partial(_lap_of_steps, watch, consensus)
            found = tracer.consensus(label, cfg=cfg, progress=steps)
            watch.lap("edges between what is shared")
            checks["consensus"] = {
                "cells": found.n_cells,
                "features": sum(node.kind == "feature" for node in found.nodes),
                "max_relative_error": found.accounting["max_relative_error"],
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "machine": machine(tracer.lm.device),
        "layers": layers,
        "tokens": len(circuit.token_ids),
        "laps": [lap._asdict() for lap in watch.laps],
        "nodes": len(circuit.nodes),
        "max_relative_error": circuit.accounting["max_relative_error"],
        "loading_peak_gib": watch.laps[0].peak_gib,
        "tracing_peak_gib": watch.peak_gib(1),
        "peak_memory_gib": watch.peak_gib(),
        **checks,
    }


def _lap_of_steps(watch: Stopwatch, cells: int, done: int, total: int, message: str = "") -> None:
    """Ends a lap where the first of two steps is done."""
    if done == cells and total == 2 * cells:
        watch.lap(f"effects of {cells} cells")


MANY = 64


def bench_circuits(
    tracer: Tracer, label: str | None = None, cells: int = 30, runs: int = 5
) -> dict[str, Any]:
    """Time gene effects and the pruned circuit of one cell, and a consensus of `cells` cells of one type."""
    name = label or str(tracer.table.cells_per_type().index[0])
    cfg = ConsensusConfig(cells=cells)
    row = int(tracer.draw(name, cfg)[0])
    found = tracer.consensus(name, cfg=cfg)
    rows = [
        timed("gene effects of one cell", lambda: tracer.gene_effects(row, name), runs),
        timed("pruned circuit of one cell", lambda: tracer.cell(row, label=name), runs),
        timed(f"consensus of {found.n_cells} cells", lambda: tracer.consensus(name, cfg=cfg), 2, warm=0),
    ]
    many = ConsensusConfig(cells=MANY)
    together = timed(f"consensus of {MANY} cells", lambda: tracer.consensus(name, cfg=many), 2, warm=0)
    each = timed(
        f"circuits of {MANY} cells, one by one",
        lambda: [tracer.cell(int(one), label=name) for one in tracer.draw(name, many)],
        1,
        warm=0,
    )
    rows += [together, each]
    cell = tracer.cell(row, label=name)
    return {
        "machine": machine(tracer.lm.device),
        "model": tracer.lm.name,
        "transcoders": tracer.transcoders.name,
        "cell_type": name,
        "tokens": len(cell.token_ids),
        "rows": [timing._asdict() for timing in rows],
        "together_faster": each.median_s / together.median_s,
        "max_relative_error": found.accounting["max_relative_error"],
        "peak_memory_gib": peak_gib(),
    }


TOKENS, K = 264, 32
NODES = (256, 1024, 4096)
BIG = {"tokens": 700, "active": 50, "nodes": 7500}
BATCHES = 6  # of the big case on a CPU
PEER_RUNS = 3  # of the peer, which takes many times as long


class GraphTiming(NamedTuple):
    """Seconds of the phases of one graph; `total_s` is all of them, `cut_s` included."""

    case: str
    nodes: int
    active: int
    freeze_s: float
    choose_s: float
    edges_s: float
    cut_s: float
    total_s: float
    peak_gib: float
    max_relative_error: float


def _now(device: torch.device) -> float:
    wait(device)
    return time.perf_counter()


def _topk_set(n_layers: int, width: int) -> TranscoderSet:
    """Random TopK transcoders: every token has exactly K active features."""
    generator = torch.Generator().manual_seed(0)

    def layer() -> Transcoder:
        encoder_Fd, decoder_Fd = (
            torch.randn(8 * width, width, generator=generator) * width**-0.5 for _ in range(2)
        )
        zero = torch.zeros
        return Transcoder(encoder_Fd, zero(8 * width), 0.1 * decoder_Fd, zero(width), kind="topk", k=K)

    return TranscoderSet(tuple(layer() for _ in range(n_layers)))


def spread_evenly(frozen: FrozenPrompt, effects: tuple[torch.Tensor, ...], nodes: int) -> SelectedFeatures:
    """The same number of nodes in every layer: in each those with the largest total effect."""
    each = nodes // len(effects)
    scores = []
    for effect_N in effects:
        keep_N = torch.zeros_like(effect_N)
        keep_N[effect_N.abs().argsort(descending=True, stable=True)[:each]] = 1.0
        scores.append(keep_N)
    return largest(frozen, tuple(scores), each * len(effects))


def graph_timing(
    rep: Replacement,
    ids: Sequence[int],
    target_of: Callable[[FrozenPrompt], tuple[GradientRows, float, float]],
    nodes: int,
    even: bool,
) -> GraphTiming:
    """One graph, phase by phase. `target_of` gives the target's rows, its bias and its value."""
    device = rep.lm.device
    start = _now(device)
    frozen = freeze(rep, ids)
    target, target_bias, value = target_of(frozen)
    effects = total_effects(frozen, target, target_bias).features
    sources = Sources(frozen)
    frozen_at = _now(device)
    chosen = spread_evenly(frozen, effects, nodes) if even else by_influence(sources, effects, target, nodes)
    chosen_at = _now(device)
    table = edge_table(sources, chosen, target, target_bias, value)
    edges_at = _now(device)
    share_RS = shares(table)[1]
    prune(share_RS, influence(share_RS), 0.8, 0.98)
    end = _now(device)
    return GraphTiming(
        "b: spread evenly" if even else "a: by influence",
        len(chosen.layer_C),
        sum(len(layer.position_N) for layer in frozen.layers),
        frozen_at - start,
        chosen_at - frozen_at,
        edges_at - chosen_at,
        end - edges_at,
        end - start,
        peak_gib(),
        table.max_relative_error(table.value_R != 0),  # a random target has none
    )


class _Reference(NamedTuple):
    """What cases (a) and (b) trace: random TopK transcoders, a prompt, and a target that reads one token."""

    rep: Replacement
    ids: Sequence[int]
    plan: TargetPlan


def _reference(tracer: Tracer) -> _Reference:
    facts = tracer.lm.facts
    rep = replacement(tracer.lm, _topk_set(facts.n_layers, facts.width))
    own = Tracer(tracer.lm, rep.transcoders, tracer.table, rep, tracer.labels)
    row = int((tracer.table.labels != "").argmax())
    plan = own.plan(tracer.labels[0], kind="contrast")
    return _Reference(rep, plan.prompt_ids(own.encode([row])[0])[:TOKENS], plan)


def bench_reference(
    tracer: Tracer, nodes: tuple[int, ...] = NODES, runs: int = 5, cases: Sequence[bool] = (False, True)
) -> list[GraphTiming]:
    """Cases (a) and (b) (`cases`: whether nodes are spread evenly): the run of median time of each."""
    rep, ids, plan = _reference(tracer)
    target_of = partial(target_row, plan=plan)
    out = []
    for even in cases:
        for n in nodes:
            found = [graph_timing(rep, ids, target_of, n, even) for _ in range(runs + 1)][1:]
            out.append(sorted(found, key=lambda timing: timing.total_s)[runs // 2])
    return out


@torch.no_grad()
def _beside_peer(tracer: Tracer, python: str, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Case (a) in circuit-tracer, then once more here: seconds of both, their ratio, and how far edges into
    the target from features that both chose are apart."""
    rep, ids, plan = _reference(tracer)
    frozen = freeze(rep, ids)
    direction_d = vocabulary_weights(frozen, plan)[0].float() @ rep.lm.unembedding
    peer, edges = peer_traces(python, rep.lm, rep.transcoders, ids, direction_d, NODES, PEER_RUNS)
    after = bench_reference(tracer, cases=(False,))
    for row, again in zip(peer["rows"], after, strict=True):
        first = next(one for one in before if one["case"] == again.case and one["nodes"] == again.nodes)
        row["ours"] = (first["total_s"] + again.total_s) / 2
        row["ratio"] = row["seconds"] / row["ours"]
        row["both"], row["apart"] = edges[row["nodes"]].difference(_target_edges(frozen, plan, row["nodes"]))
    return peer


def _target_edges(frozen: FrozenPrompt, plan: TargetPlan, nodes: int) -> TargetEdges:
    """Our edges into the target, of the features that case (a) chooses."""
    target, target_bias, value = target_row(frozen, plan=plan)
    effects, sources = total_effects(frozen, target, target_bias).features, Sources(frozen)
    chosen = by_influence(sources, effects, target, nodes)
    table = edge_table(sources, chosen, target, target_bias, value)
    places = torch.stack([chosen.layer_C, chosen.position_C, chosen.feature_C], 1).tolist()
    return TargetEdges([(k, t, f) for k, t, f in places], table.feature_RC[-1].tolist())


def _big(device: torch.device) -> tuple[FrozenPrompt, GradientRows]:
    """The random model at a random prompt, and a random direction as the target."""
    lm = random_language(device)
    generator = torch.Generator().manual_seed(0)
    layers = tuple(random_layer(generator, active=BIG["active"]) for _ in range(lm.facts.n_layers))
    rep = replacement(lm, TranscoderSet(layers).to(device))
    ids = torch.randint(0, PYTHIA_410M["vocab_size"], (BIG["tokens"],), generator=generator).tolist()
    gradient_d = torch.randn(lm.facts.width, generator=generator).to(device)
    frozen = freeze(rep, ids)
    return frozen, last_rows(frozen, gradient_d)


@torch.no_grad()
def bench_big(device: torch.device) -> dict[str, Any]:
    """Case (c): all rows on a GPU, on a CPU a few batches of them, and the projection."""
    frozen, target = _big(device)
    effects = total_effects(frozen, target, 0.0).features
    chosen = spread_evenly(frozen, effects, BIG["nodes"])
    sources = Sources(frozen)
    all_rows = device.type == "cuda"
    start = _now(device)
    table = edge_table(sources, chosen, target, 0.0, 0.0, only=None if all_rows else BATCHES)
    seconds = _now(device) - start
    done_R = table.value_R != 0
    share = float(done_R[:-1].float().mean())
    return {
        "case": "c: 410m dimensions",
        "nodes": len(chosen.layer_C),
        "active": sum(len(layer.position_N) for layer in frozen.layers),
        "rows_share": share,
        "edges_s": seconds,
        "edges_s_all_rows": seconds / share,
        "peak_gib": peak_gib(),
        "max_relative_error": table.max_relative_error(done_R),
    }


def bench_trace(tracer: Tracer, big: bool = True, peer_python: str | None = None) -> dict[str, Any]:
    """All cases on one machine. `peer_python`: the interpreter of an environment with circuit-tracer, which
    traces case (a) between two of our own runs of it, so that all meet what else the machine does."""
    device = tracer.lm.device
    out: dict[str, Any] = {
        "machine": machine(device),
        "tokens": TOKENS,
        "graphs": [row._asdict() for row in bench_reference(tracer)],
    }
    if peer_python:
        out["peer"] = _beside_peer(tracer, peer_python, out["graphs"])
    if big:
        out["big"] = bench_big(device)
    return out

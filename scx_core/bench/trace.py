"""How long an attribution graph takes, and how much memory: the reference shape and a model of 410m size.

(a) a trained model, 264 tokens, random TopK-32 transcoders (33,792 active features at four layers), nodes
chosen by influence; (b) the same with the nodes spread evenly over the layers; (c) random 410m dimensions:
24 layers, 700 tokens, 50 active features a token, 7,500 nodes spread evenly; on a CPU for a stated share of
the rows, from which the seconds for all of them are projected.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from scx_core.attribution.backward import total_effects
from scx_core.attribution.edges import edge_table
from scx_core.attribution.local_replacement_model import FrozenPrompt, freeze
from scx_core.attribution.node_selection import Chosen, by_influence, largest
from scx_core.attribution.pruning import cut, influence
from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.residual_stream import Rows, Sources, last_rows
from scx_core.attribution.target import TargetPlan, target_row
from scx_core.bench.machine import machine, peak_gib
from scx_core.bench.pythia import PYTHIA_410M, random_layer
from scx_core.circuits import Tracer
from scx_core.circuits.trace import shares
from scx_core.language import Language
from scx_core.language.architectures import architecture
from scx_core.transcoders import Transcoder, TranscoderSet

TOKENS, K = 264, 32
NODES = (256, 1024, 4096)
BIG = {"tokens": 700, "active": 50, "nodes": 7500}
BATCHES = 6  # of the big case on a CPU


class Row(NamedTuple):
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
    if device.type == "cuda":
        torch.cuda.synchronize(device)
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


def spread_evenly(frozen: FrozenPrompt, effects: tuple[torch.Tensor, ...], nodes: int) -> Chosen:
    """The same number of nodes in every layer: in each those with the largest total effect."""
    each = nodes // len(effects)
    scores = []
    for effect_N in effects:
        keep_N = torch.zeros_like(effect_N)
        keep_N[effect_N.abs().argsort(descending=True, stable=True)[:each]] = 1.0
        scores.append(keep_N)
    return largest(frozen, tuple(scores), each * len(effects))


def _graph(tracer: Tracer, ids: tuple[int, ...], plan: TargetPlan, nodes: int, even: bool) -> Row:
    """One graph, phase by phase."""
    device = tracer.lm.device
    start = _now(device)
    frozen = freeze(tracer.rep, ids)
    target, read_bias, value = target_row(frozen, plan)
    effects = total_effects(frozen, target, read_bias).features
    sources = Sources(frozen)
    frozen_at = _now(device)
    chosen = spread_evenly(frozen, effects, nodes) if even else by_influence(sources, effects, target, nodes)
    chosen_at = _now(device)
    table = edge_table(sources, chosen, target, read_bias, value)
    edges_at = _now(device)
    share_RS = shares(table)[1]
    cut(share_RS, influence(share_RS), 0.8, 0.98)
    end = _now(device)
    return Row(
        "b: spread evenly" if even else "a: by influence",
        len(chosen.layer_C),
        sum(len(layer.position_N) for layer in frozen.layers),
        frozen_at - start,
        chosen_at - frozen_at,
        edges_at - chosen_at,
        end - edges_at,
        end - start,
        peak_gib(),
        table.max_relative_error(),
    )


def bench_reference(tracer: Tracer, nodes: tuple[int, ...] = NODES, runs: int = 5) -> list[Row]:
    """Cases (a) and (b): the run of median time of each."""
    facts = tracer.lm.facts
    rep = replacement(tracer.lm, _topk_set(facts.n_layers, facts.width))
    own = Tracer(tracer.lm, rep.transcoders, tracer.table, rep, tracer.labels)
    label = tracer.labels[0]
    row = int((tracer.table.labels != "").argmax())
    plan = own.plan(label, kind="contrast")
    ids = plan.prompt_ids(own.encode([row])[0])[:TOKENS]
    out = []
    for even in (False, True):
        for n in nodes:
            found = [_graph(own, ids, plan, n, even) for _ in range(runs + 1)][1:]
            out.append(sorted(found, key=lambda timing: timing.total_s)[runs // 2])
    return out


def _big(device: torch.device) -> tuple[FrozenPrompt, Rows]:
    """A random model of 410m dimensions at a random prompt, and a random read vector as the target."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(**PYTHIA_410M)
    model: Any = GPTNeoXForCausalLM(config).eval().requires_grad_(False)
    model.to(device).set_attn_implementation("eager")  # which shows its patterns
    lm = Language(model, None, architecture(config), "random 410m", "random")  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    layers = tuple(random_layer(generator, active=BIG["active"]) for _ in range(lm.facts.n_layers))
    rep = replacement(lm, TranscoderSet(layers).to(device))
    ids = torch.randint(0, config.vocab_size, (BIG["tokens"],), generator=generator).tolist()
    read_d = torch.randn(lm.facts.width, generator=generator).to(device)
    frozen = freeze(rep, ids)
    return frozen, last_rows(frozen, read_d)


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
    error_R = (table.sums() - table.value_R.double()).abs() / table.value_R.double().abs().clamp(min=1e-12)
    return {
        "case": "c: 410m dimensions",
        "nodes": len(chosen.layer_C),
        "active": sum(len(layer.position_N) for layer in frozen.layers),
        "rows_share": share,
        "edges_s": seconds,
        "edges_s_all_rows": seconds / share,
        "peak_gib": peak_gib(),
        "max_relative_error": float(error_R[:-1][done_R[:-1]].max()),
    }


def bench_trace(tracer: Tracer, big: bool = True) -> dict[str, Any]:
    """All cases on one machine."""
    device = tracer.lm.device
    out: dict[str, Any] = {
        "machine": machine(device),
        "tokens": TOKENS,
        "graphs": [row._asdict() for row in bench_reference(tracer)],
    }
    if big:
        out["big"] = bench_big(device)
    return out

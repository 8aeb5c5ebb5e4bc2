"""One attribution graph of a long prompt at 410m dimensions: thousands of tokens, random weights.

The prompt is random tokens and the target a random direction: no table needs cells of that many genes.
`waves` fills only so many waves of rows of edges, evenly taken, with the nodes of largest total effect: the
memory is that of all rows, the seconds of all are projected.
"""

from __future__ import annotations

from typing import Any

import torch

from scx_core.attribution.backward import total_effects
from scx_core.attribution.edges import edge_table
from scx_core.attribution.local_replacement_model import freeze
from scx_core.attribution.node_selection import by_influence, largest
from scx_core.attribution.pruning import influence, prune
from scx_core.attribution.replacement_model import replacement
from scx_core.attribution.residual_stream import Sources, last_rows
from scx_core.bench.machine import Stopwatch, Told, machine, untold
from scx_core.bench.random_410m.made_model import PYTHIA_410M, random_language, random_layer
from scx_core.circuits.trace import shares
from scx_core.language.patterns import patterns_plan
from scx_core.transcoders import TranscoderSet

ACTIVE = 32  # features a token


@torch.no_grad()
def bench_long(
    device: torch.device,
    tokens: int = 4096,
    nodes: int = 1000,
    layers: int = PYTHIA_410M["num_hidden_layers"],
    waves: int = 0,
    told: Told = untold,
) -> dict[str, Any]:
    """Seconds, processor seconds and peak of each step, `told` as it ends; `waves` (0: all): see above."""
    watch = Stopwatch(device, told)
    sizes = {"num_hidden_layers": layers, "max_position_embeddings": max(2048, tokens)}
    lm = random_language(device, sizes)
    generator = torch.Generator().manual_seed(0)
    coders = tuple(random_layer(generator, active=ACTIVE) for _ in range(layers))
    rep = replacement(lm, TranscoderSet(coders).to(device))
    ids = torch.randint(0, PYTHIA_410M["vocab_size"], (tokens,), generator=generator).tolist()
    gradient_d = torch.randn(lm.facts.width, generator=generator).to(device)
    watch.lap("random model and set")
    frozen = freeze(rep, ids)
    target = last_rows(frozen, gradient_d)
    watch.lap("freeze")
    effects = total_effects(frozen, target, 0.0).features
    sources = Sources(frozen)
    watch.lap("effects of genes and features")
    chosen = largest(frozen, effects, nodes) if waves else by_influence(sources, effects, target, nodes)
    watch.lap("choice of nodes")
    table = edge_table(sources, chosen, target, 0.0, 0.0, only=waves or None)
    done_R = table.value_R != 0
    del sources
    watch.lap(f"edges into {int(done_R.sum())} of {len(chosen.layer_C)} nodes")
    frozen.release_patterns()
    share_RS = shares(table)[1]
    prune(share_RS, influence(share_RS), 0.8, 0.98)
    watch.lap("shares, influence, pruning")
    return {
        "machine": machine(device),
        "layers": layers,
        "tokens": tokens,
        "patterns": patterns_plan(lm, tokens),
        "active": sum(len(layer.position_N) for layer in frozen.layers),
        "laps": [lap._asdict() for lap in watch.laps],
        "nodes": len(chosen.layer_C),
        "rows_share": float(done_R[:-1].float().mean()),
        "max_relative_error": table.max_relative_error(done_R),
        "peak_memory_gib": watch.peak_gib(),
    }

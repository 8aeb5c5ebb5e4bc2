"""A model of the true Pythia-410m dimensions with random weights: written, loaded, one cell traced."""

from __future__ import annotations

import copy
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerBase

from scx_core.bench.machine import machine, peak_gib
from scx_core.cells import CellTable
from scx_core.circuits import TraceConfig, make_tracer
from scx_core.language import load_language
from scx_core.runs import write_json
from scx_core.transcoders import Transcoder, TranscoderSet, load_set, save_set

# As the published training configuration of pythia-410m states it.
PYTHIA_410M: dict[str, Any] = {
    "vocab_size": 50304,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 2048,
    "rotary_pct": 0.25,
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
}


def random_model(
    folder: Path, tokenizer: PreTrainedTokenizerBase, labels: list[str], n_genes: int = 114
) -> None:
    """Write the model folder (1.6 GB in float32).

    The tokenizer is filled up to the model's rows, as a model with another vocabulary than its tokenizer's is
    not loaded. The embedded tokenizer spells a gene in more pieces than Pythia's own: 114 genes are the 465
    tokens or so that 200 genes are there.
    """
    torch.manual_seed(0)
    GPTNeoXForCausalLM(GPTNeoXConfig(**PYTHIA_410M)).save_pretrained(folder)
    full = copy.deepcopy(tokenizer)
    full.add_tokens([f"<unused{i}>" for i in range(len(full), PYTHIA_410M["vocab_size"])])
    full.save_pretrained(folder)
    sentences = {"n_genes": n_genes, "tie_seed": 42, "prompt": "scx"}
    write_json(
        folder / "scx.json", {"name": "random 410m", "labels": labels, "sentences": sentences, "lead": " "}
    )


def random_layer(
    generator: torch.Generator, width: int = 1024, expansion: int = 8, active: int = 50
) -> Transcoder:
    """A random transcoder whose thresholds let about `active` features a token pass."""
    n_features = expansion * width
    # Behind a LayerNorm x has norm √d, so pre-activations of these rows are standard normal.
    threshold = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - active / n_features))
    encoder_Fd = torch.randn(n_features, width, generator=generator) * width**-0.5
    decoder_Fd = torch.randn(n_features, width, generator=generator) * width**-0.5 * 0.1
    return Transcoder(
        encoder_Fd,
        torch.zeros(n_features),
        decoder_Fd,
        torch.zeros(width),
        kind="jumprelu",
        threshold_F=threshold.repeat(n_features),
    )


def random_set(folder: Path, n_layers: int = 24) -> None:
    """Write random transcoders (1.6 GB)."""
    generator = torch.Generator().manual_seed(0)
    layers = tuple(random_layer(generator) for _ in range(n_layers))
    save_set(folder, TranscoderSet(layers), {"name": "random 8x"})


def bench_410m(
    folder: Path, table: CellTable, tokenizer: PreTrainedTokenizerBase, device: str = "cpu", nodes: int = 384
) -> dict[str, Any]:
    """Write, load and trace; seconds, tokens, peak memory and the accounting. Cleans up after itself."""
    try:
        seconds, start = {}, time.perf_counter()
        random_model(folder / "model", tokenizer, table.types)
        random_set(folder / "transcoders")
        seconds["write"] = time.perf_counter() - start
        start = time.perf_counter()
        lm = load_language(folder / "model", device)
        tracer = make_tracer(lm, load_set(folder / "transcoders", lm.device, lm.dtype), table)
        seconds["load"] = time.perf_counter() - start
        start = time.perf_counter()
        circuit = tracer.cell(0, label=table.types[0], cfg=TraceConfig(nodes=nodes))
        seconds["trace"] = time.perf_counter() - start
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "machine": machine(lm.device),
        "tokens": len(circuit.token_ids),
        "seconds": seconds,
        "nodes": len(circuit.nodes),
        "max_relative_error": circuit.accounting["max_relative_error"],
        "peak_memory_gib": peak_gib(),
    }

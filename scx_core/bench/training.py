"""How fast transcoders train: tokens a second, peak memory, where the time goes, and a peer beside it.

All sequences have one length, so that nobody pays for padding; the peer gets the same model, tokens, features
and k, in the same run on the same machine. Legend: C cells, T tokens of a cell.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.numpy import save_file

from scx_core.bench.machine import benchmark_file, machine, peak_gib, wait
from scx_core.cells import CellTable
from scx_core.environment import VARIABLES
from scx_core.errors import ScxError
from scx_core.language import Language, fast_attention
from scx_core.language.numerics.denormals import flushed_subnormals
from scx_core.sentences import SentenceConfig
from scx_core.training.config import TrainConfig, TranscoderConfig
from scx_core.training.plan import make_plan
from scx_core.training.processes.distributed import ALONE
from scx_core.training.profiler import PHASES, stopwatch
from scx_core.training.tokens import TokenTexts, encode_texts
from scx_core.training.trainer_state import TrainerState

WARM = 3  # steps before the clock starts
ATLAS_CELLS = 704_000  # the pass that a lab would run: this many cells of 200 genes
ATLAS_GENES = 200


def even_texts(texts: TokenTexts, length: int) -> TokenTexts:
    """The first `length` tokens of every cell that has so many."""
    lengths = np.diff(texts.start)
    cells = np.flatnonzero(lengths >= length)
    if not len(cells):
        raise ScxError(f"No cell has {length} tokens.", f"The longest has {lengths.max()}.")
    ids_CT = np.stack([texts.ids[texts.start[c] : texts.start[c] + length] for c in cells])
    return TokenTexts(ids_CT.ravel(), np.arange(len(cells) + 1) * length, np.ones(len(cells), dtype=np.int64))


def bench_training(
    lm: Language,
    table: CellTable,
    transcoder: TranscoderConfig,
    steps: int = 30,
    cells_per_batch: int = 16,
    peer_python: str | None = None,
    precision: Literal["auto", "float32", "bfloat16", "fastest"] = "auto",
) -> dict[str, Any]:
    """Train `steps` steps after a warm-up. `peer_python`: the interpreter of an environment that holds
    eai-sparsify, which then trains TopK transcoders of the same size on the same tokens. It revives no dead
    features: `ratio_alike` is without our revival, `ratio` with it."""
    rows = np.flatnonzero(table.labels != "")
    whole = encode_texts(lm, table, rows[:2000], lm.sentence_config)
    length = int(np.percentile(np.diff(whole.start), 25))
    texts = even_texts(whole, length)
    train = TrainConfig(steps=10_000, cells_per_batch=cells_per_batch, anneal=0.0, precision=precision)
    with fast_attention(lm), flushed_subnormals():
        plan = make_plan(lm, texts, transcoder, train, ALONE)
        state = TrainerState.fresh(lm, texts, transcoder, train, plan)
        seconds = _steps(state, steps)
        with stopwatch(lm.device) as parts:
            watched, _ = _steps(state, max(5, steps // 3), warm=0)
        peak = peak_gib(lm.device)
        peer = None
        if peer_python:  # once more behind the peer: all meet what else the machine does
            alike = TrainerState.fresh(lm, texts, transcoder, replace(train, revive=0.0), plan)
            alike_seconds = _steps(alike, steps)
            peer = _peer(peer_python, lm, texts, transcoder, steps, cells_per_batch)
            alike_seconds = (alike_seconds + _steps(alike, steps)) / 2
            seconds = (seconds + _steps(state, steps)) / 2
    tokens = steps * cells_per_batch * length
    speed, speed_cpu = (float(tokens / s) for s in seconds)
    flops = flops_per_token(lm, transcoder, length)
    reached = peak_flops(lm.device)
    result: dict[str, Any] = {
        "machine": machine(lm.device),
        "model": lm.name,
        "layers": lm.facts.n_layers,
        "width": lm.facts.width,
        "transcoder": {"kind": transcoder.kind, "k": transcoder.k, "expansion": transcoder.expansion},
        "precision": plan.state["precision"],
        "tokens_a_step": cells_per_batch * length,
        "steps": steps,
        "tokens_per_second": speed,
        "tokens_per_processor_second": speed_cpu,
        "split": {name: parts.get(name, 0.0) / watched for name in PHASES},
        "peak_memory_gib": peak,
        "flops_per_token": flops,
        "share_of_peak_flops": flops * speed / reached,
        "peak_flops": reached,
        "atlas": atlas_pass(lm, table, rows, speed),
    }
    result["split"]["other"] = 1 - sum(result["split"].values())
    if peer:
        result["peer"] = peer
        result["ratio"] = speed / peer["tokens_per_second"]
        speed_alike, alike_cpu = (float(tokens / s) for s in alike_seconds)
        result["tokens_per_second_alike"] = speed_alike
        result["ratio_alike"] = speed_alike / peer["tokens_per_second"]
        # On a machine that does other work the clock says little.
        result["ratio_processor"] = speed_cpu / peer["tokens_per_processor_second"]
        result["ratio_alike_processor"] = alike_cpu / peer["tokens_per_processor_second"]
    return result


def _steps(state: TrainerState, steps: int, warm: int = WARM) -> np.ndarray:
    """Seconds of `steps` steps after `warm` ones, by the clock and of the processor (all threads)."""
    since = _now()
    for step in range(warm + steps):
        if step == warm:
            wait(state.lm.device)
            since = _now()
        state.step(100 + step)
    wait(state.lm.device)
    return _now() - since


def _now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def flops_per_token(lm: Language, transcoder: TranscoderConfig, length: int) -> float:
    """Floating point operations that one token needs: the model's forward pass (its matrices, and attention
    over half of `length` tokens), the dense encoders, decoding and gradients at the active pairs alone."""
    facts = lm.facts
    table = lm.model.config.vocab_size * facts.width  # embeddings are looked up, and the head is not run
    tables = 1 if lm.model.config.tie_word_embeddings else 2
    matrices = sum(p.numel() for p in lm.model.parameters() if p.ndim == 2) - tables * table
    attention = 2 * 2 * facts.n_layers * facts.width * length / 2
    encoder = 2 * facts.width * transcoder.expansion * facts.width
    pairs = 5 * 2 * transcoder.k * facts.width  # decode; gradients of values, encoder, decoder; its rows
    return 2.0 * matrices + attention + facts.n_layers * (encoder + pairs)


def peak_flops(device: torch.device, size: int = 2048) -> float:
    """What this device reaches on a large float32 product (bfloat16 on a GPU), operations a second."""
    half = device.type == "cuda"
    size = 4 * size if half else size
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if half else torch.float32)
    best = 0.0
    for _ in range(5):
        wait(device)
        since = time.perf_counter()
        a @ a
        wait(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - since))
    return best


def atlas_pass(lm: Language, table: CellTable, rows: np.ndarray, speed: float) -> dict[str, float]:
    """Minutes for one pass over an atlas at this speed, with as many tokens a cell as `ATLAS_GENES` genes of
    these cells have (in proportion, where the cells or the context hold fewer)."""
    genes = min(ATLAS_GENES, table.n_genes)
    cfg = SentenceConfig(genes, lm.sentence_config.tie_seed, lm.sentence_config.prompt)
    some = encode_texts(lm, table, rows[:50], cfg)
    per_cell = float(np.diff(some.start).mean()) * ATLAS_GENES / genes
    return {"tokens_per_cell": per_cell, "minutes": ATLAS_CELLS * per_cell / speed / 60}


def _peer(
    python: str, lm: Language, texts: TokenTexts, transcoder: TranscoderConfig, steps: int, cells: int
) -> dict[str, Any]:
    """The same in eai-sparsify's own trainer, in its own process. Raises ScxError with its last words."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        lm.model.save_pretrained(where / "model")
        lm.tokenizer.save_pretrained(where / "model")
        need = (steps + WARM + 1) * cells
        order = np.resize(np.arange(texts.n_cells), need)
        ids_CT = np.asarray(texts.ids).reshape(texts.n_cells, -1)[order].astype(np.int64)
        save_file({"ids": ids_CT}, where / "tokens.safetensors")
        names = {module: name for name, module in lm.model.base_model.named_modules()}
        asked = {
            "folder": folder,
            "k": transcoder.k,
            "expansion": transcoder.expansion,
            "skip": transcoder.skip,
            "cells": cells,
            "warm": WARM,
            "hookpoints": [names[lm.part(layer, "mlp")] for layer in range(lm.facts.n_layers)],
            "device": str(lm.device),
            "threads": torch.get_num_threads(),
        }
        command: Sequence[str] = [python, str(benchmark_file("peer_sparsify.py")), json.dumps(asked)]
        usual = {name: value for name, value in os.environ.items() if name not in VARIABLES}  # ours
        if lm.device.type == "cpu":
            usual["SPARSIFY_DISABLE_TRITON"] = (
                "1"  # whose kernels are for cards; its import fails without one
            )
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=usual)
        if done.returncode:
            raise ScxError(
                f"eai-sparsify did not train in {python}: {done.stderr.strip().splitlines()[-1:]}",
                "Give the interpreter of an environment with `pip install eai-sparsify torch transformers`.",
            )
        return json.loads(done.stdout.strip().splitlines()[-1])

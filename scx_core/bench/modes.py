"""Accounting at real size in every mode that a person can choose: by how much a node's inputs miss its value.

Random weights of 410m dimensions (24 layers × 1,024, 16 heads, 8,192 features a layer), every bias and norm
parameter away from its default. A mode differs from the first by one thing: what is explained, what stands in
for the MLPs, how patterns and weights are held, the model's family, one cell or several. Each runs in a
process of its own, so that its peak is its own. A family has its own arithmetic (norms behind branches, caps
on logits, windows, shared value heads, gated MLPs); its sizes are those of 410m, not of a released model.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen3Config,
)

from scx_core.bench.machine import in_own_process, machine, peak_gib
from scx_core.bench.random_410m.made_model import PYTHIA_410M, random_layer
from scx_core.cells import CellChoices, CellTable, open_cells
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, Tracer, make_tracer
from scx_core.environment import prepare_process
from scx_core.errors import ScxError
from scx_core.language import EMBEDDED, Language, encode_cells, load_language, mlp_io, patterns
from scx_core.language.architectures import architecture
from scx_core.language.numerics.float64 import compute_in_float64
from scx_core.language.numerics.held_in_bfloat16 import compute_in_float32
from scx_core.language.numerics.onednn import asked_for, speed_up
from scx_core.runs import Progress, silent
from scx_core.transcoders import CrossLayerSet, Transcoder, TranscoderSet
from scx_core.transcoders.through_mlp import through_mlp

ACTIVE, K = 50, 32  # features a token: of a threshold, of TopK
FEW = 2  # features per width of a cross-layer set: with 8 its 276 maps would take 9 GB
CELLS = 2  # of a consensus


class Mode(NamedTuple):
    """What is changed: the target, whether it stands against one answer alone, the stand-ins, the family, and
    `way`: how the rest is done."""

    what: str
    trace: TraceConfig = TraceConfig(target="answer")
    one_rival: bool = False
    coders: str = "jumprelu"
    family: str = "gpt_neox"
    way: str = ""


MODES = {
    "answer": Mode("log-odds of the whole answer against all others"),
    "one": Mode("the same against one answer", one_rival=True),
    "contrast": Mode("decision token against those of the others", TraceConfig(target="contrast")),
    "logit": Mode("logit of the decision token", TraceConfig(target="logit")),
    "logprob": Mode("its log-probability", TraceConfig(target="logprob")),
    "token": Mode("logit of any one token", TraceConfig(target="token", token="17")),
    "feature": Mode("a feature's pre-activation", way="feature"),
    "effect": Mode("nodes of the largest total effect", TraceConfig(target="answer", choice="effect")),
    "consensus": Mode(f"consensus of {CELLS} cells, whole circuits", way="circuits"),
    "two-steps": Mode(f"consensus of {CELLS} cells, in two steps", way="two-steps"),
    "made": Mode("attention patterns made again a layer at a time", way="made"),
    "bfloat16": Mode("weights held in bfloat16", way="bfloat16"),
    "skip": Mode("transcoders with a skip connection", coders="skip"),
    "relu": Mode("ReLU transcoders", coders="relu"),
    "topk": Mode(f"TopK transcoders, {K} features a token", coders="topk"),
    "sae": Mode("SAEs of the MLPs' outputs, through the MLPs", coders="sae"),
    "cross": Mode(f"cross-layer transcoders, {FEW} features per width", coders="cross"),
    "sequential": Mode("GPT-NeoX, attention before the MLP", family="sequential"),
    **{name: Mode(f"family {name}", family=name) for name in ("gpt2", "llama", "qwen2", "qwen3", "gemma2")},
    "gemma2 skip": Mode("family gemma2, with a skip connection", coders="skip", family="gemma2"),
}


def _config(family: str, layers: int) -> PretrainedConfig:
    """The configuration of a family at 410m dimensions."""
    neox: dict[str, Any] = PYTHIA_410M | {"num_hidden_layers": layers}
    if family in ("gpt_neox", "sequential"):
        return GPTNeoXConfig(**neox | {"use_parallel_residual": family == "gpt_neox"})
    if family == "gpt2":
        width, heads = neox["hidden_size"], neox["num_attention_heads"]
        sizes: dict[str, Any] = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_positions": 2048}
        return GPT2Config(vocab_size=neox["vocab_size"], tie_word_embeddings=True, **sizes)
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
    common: dict[str, Any] = {key: neox[key] for key in keys} | {
        "num_hidden_layers": layers,
        "num_key_value_heads": 8,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    }
    head: dict[str, Any] = {"head_dim": 64}
    window: dict[str, Any] = {
        "use_sliding_window": True,
        "sliding_window": 256,
        "max_window_layers": layers // 2,
    }
    caps: dict[str, Any] = {
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "query_pre_attn_scalar": 64,
    }
    made: dict[str, Callable[[], PretrainedConfig]] = {
        "llama": lambda: LlamaConfig(attention_bias=True, mlp_bias=True, **head, **common),
        "qwen2": lambda: Qwen2Config(**window, **common),
        "qwen3": lambda: Qwen3Config(attention_bias=True, **head, **common),
        "gemma2": lambda: Gemma2Config(sliding_window=256, **caps, **head, **common),
    }
    return made[family]()


def random_family(
    family: str,
    layers: int,
    genes: int,
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    bfloat16: bool = False,
) -> Language:
    """A model of a family with random weights, in memory, ready as `load_language` makes one."""
    torch.manual_seed(0)
    config = _config(family, layers)
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model = model.to(torch.bfloat16 if bfloat16 else torch.float32).eval().requires_grad_(False)
    sentences = {"n_genes": genes, "tie_seed": 42, "prompt": "scx"}
    settings = {"name": f"random {family}", "labels": list(labels), "sentences": sentences, "lead": " "}
    lm = Language(model, tokenizer, architecture(config), "random", f"random {family}", settings)
    compute_in_float64(lm)
    if asked_for():
        speed_up(lm.model)
    compute_in_float32(lm.model)
    return lm


def random_coders(lm: Language, kind: str, ids: Sequence[int]) -> TranscoderSet:
    """Random stand-ins of a kind; `ids`: a prompt, by whose MLPs the gates of SAEs are set."""
    generator, layers, width = torch.Generator().manual_seed(0), lm.facts.n_layers, lm.facts.width
    made = [random_layer(generator, width, FEW if kind == "cross" else 8, ACTIVE) for _ in range(layers)]
    made = [replace(one, b_dec_d=0.05 * torch.randn(width, generator=generator)) for one in made]
    if kind == "skip":
        skips = [torch.randn(width, width, generator=generator) * 0.3 * width**-0.5 for _ in made]
        made = [replace(one, W_skip_dd=skip) for one, skip in zip(made, skips, strict=True)]
    if kind == "relu":
        made = [_relu(one) for one in made]
    if kind == "topk":
        made = [replace(one, kind="topk", threshold_F=None, k=K) for one in made]
    if kind == "cross":
        cross = [torch.randn(layers - 1 - m, FEW * width, width, generator=generator) for m in range(layers)]
        return CrossLayerSet(tuple(made), cross=tuple(W.mul_(0.1 * width**-0.5) for W in cross))
    if kind != "sae":
        return TranscoderSet(tuple(made))
    one_1T = torch.tensor([list(ids)])
    outputs = mlp_io(lm, one_1T, torch.ones_like(one_1T)).outputs
    scales = [float(y_1Td.square().mean().sqrt()) for y_1Td in outputs]
    gated = [replace(one, threshold_F=_threshold(one) * size) for one, size in zip(made, scales, strict=True)]
    return through_mlp(lm, TranscoderSet(tuple(gated), reads="output"))


def _threshold(coder: Transcoder) -> torch.Tensor:
    assert coder.threshold_F is not None  # random_layer gives one
    return coder.threshold_F


def _relu(coder: Transcoder) -> Transcoder:
    """As many features, by a bias in the place of the threshold."""
    return replace(coder, kind="relu", threshold_F=None, b_enc_F=-_threshold(coder))


def _circuit(tracer: Tracer, mode: Mode, label: str, nodes: int) -> Circuit:
    """The circuit of a mode."""
    cfg = replace(mode.trace, nodes=nodes)
    if mode.way == "feature":
        layer = tracer.lm.facts.n_layers * 2 // 3
        return tracer.feature(0, layer, _active_feature(tracer, layer), cfg=cfg)
    if mode.way in ("circuits", "two-steps"):
        many = ConsensusConfig(cells=CELLS, nodes=nodes, method=mode.way)
        return tracer.consensus(label, trace=cfg, cfg=many)
    against = [next(name for name in tracer.labels if name != label)] if mode.one_rival else None
    return tracer.cell(0, label=label, against=against, cfg=cfg)


def _active_feature(tracer: Tracer, layer: int) -> int:
    """A feature that is active at the last token of the first cell."""
    ids_1T = torch.tensor([list(tracer.encode([0])[0].ids)])
    x_Td = mlp_io(tracer.lm, ids_1T, torch.ones_like(ids_1T), layers=[layer]).inputs[layer][0]
    return int(tracer.transcoders.layers[layer].encode(x_Td[-1:])[0].argmax())


def account_of(
    name: str, table: CellTable, tokenizer: PreTrainedTokenizerBase, layers: int, genes: int, nodes: int
) -> dict[str, Any]:
    """One mode in this process: accounting error (relative, worst row), rows, tokens, wall and processor
    seconds of the trace alone (`all_cpu_s`: of the whole process), and the peak of the process, GiB."""
    mode = MODES[name]
    lm = random_family(mode.family, layers, genes, table.types, tokenizer, mode.way == "bfloat16")
    ids = encode_cells(lm, table, [0])[0].ids
    tracer = make_tracer(lm, random_coders(lm, mode.coders, ids), table)
    since = time.perf_counter(), time.process_time()
    again = mock.patch.object(patterns, "KEPT_NUMBERS", 0) if mode.way == "made" else nullcontext()
    with again, tempfile.TemporaryDirectory() as runs, mock.patch.dict("os.environ", {"SCX_RUNS": runs}):
        found = _circuit(tracer, mode, table.types[0], nodes)
    return {
        "mode": name,
        "what": mode.what,
        "max_relative_error": found.accounting["max_relative_error"],
        "rows": found.accounting.get("rows"),
        "patterns": found.provenance.get("attention_patterns", patterns.KEPT),
        "tokens": len(ids),
        "layers": layers,
        "wall_s": time.perf_counter() - since[0],
        "cpu_s": time.process_time() - since[1],
        "all_cpu_s": time.process_time(),
        "peak_gib": peak_gib(),
    }


def _untold(row: dict[str, Any]) -> None:
    """Says nothing."""


def bench_modes(
    names: str = "all",
    nodes: int = 64,
    layers: int = 24,
    genes: int = 114,
    progress: Progress = silent,
    told: Callable[[dict[str, Any]], None] = _untold,
) -> dict[str, Any]:
    """Modes (`all`, or names of `MODES` with commas between) one after the other, `told` as each ends. Raises
    ScxError for an unknown name; one that fails has its last words as `error`, and the others run all the
    same."""
    wanted = list(MODES) if names == "all" else [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in MODES]:
        raise ScxError(f"{unknown[0]!r} is none of these modes.", f"Choose among: all, {', '.join(MODES)}.")
    rows = []
    for done, name in enumerate(wanted):
        progress(done, len(wanted), MODES[name].what)
        try:
            row = in_own_process("scx_core.bench.modes", name, layers, genes, nodes)
        except ScxError as error:
            row = {"mode": name, "what": MODES[name].what, "error": error.problem}
        rows.append(row)
        told(row)
    progress(len(wanted), len(wanted), "done")
    return {"machine": machine(), "nodes": nodes, "modes": rows}


def main(name: str, layers: int, genes: int, nodes: int) -> None:
    """One mode in this process; prints its figures as a line of JSON."""
    table = open_cells("embedded", CellChoices())
    tokenizer = load_language(EMBEDDED, "cpu").tokenizer
    print(json.dumps(account_of(name, table, tokenizer, layers, genes, nodes)))


if __name__ == "__main__":
    prepare_process()
    main(sys.argv[1], *map(int, sys.argv[2:]))

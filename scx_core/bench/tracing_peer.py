"""The same prompt, model, transcoders, target and number of nodes in circuit-tracer, the public tracer.

It runs in an interpreter of its own (benchmarks/peer_circuit_tracer.py), as it needs older libraries, on as
many threads, at several batch sizes, of which the fastest counts. That both speak of the same graph is
checked: edges into the target from the features that both chose.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from scx_core.bench.machine import benchmark_file
from scx_core.environment import VARIABLES
from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.transcoders import TranscoderSet

# Sizes of the model that the peer builds its own of; the rest it has from the weights.
SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"),
    *("max_position_embeddings", "layer_norm_eps", "hidden_act", "use_parallel_residual"),
)
BATCHES = (64, 256)  # rows that it may carry at a time; its own default, 512, is for cards


class TargetEdges:
    """Edges into the target by (layer, position, feature), of one graph."""

    def __init__(self, places: Sequence[tuple[int, int, int]], edges: Sequence[float]) -> None:
        self.of = dict(zip(places, edges, strict=True))

    def difference(self, other: TargetEdges) -> tuple[int, float]:
        """How many features both have, and the largest difference of their edges, of the largest edge."""
        both = self.of.keys() & other.of.keys()
        largest = max((abs(self.of[place]) for place in both), default=0.0)
        apart = max((abs(self.of[place] - other.of[place]) for place in both), default=0.0)
        return len(both), apart / largest if largest else 0.0


def peer_traces(
    python: str,
    lm: Language,
    transcoders: TranscoderSet,
    ids: Sequence[int],
    direction_d: torch.Tensor,
    nodes: Sequence[int],
    runs: int,
) -> tuple[dict[str, Any], dict[int, TargetEdges]]:
    """What the peer says of itself (version, seconds and peak GiB by number of nodes), and its edges into the
    target. `direction_d`: the target as a direction behind the last norm. Raises ScxError for a model of
    another family, and with the peer's last words."""
    config = lm.model.config
    if config.model_type != "gpt_neox":
        raise ScxError(
            f"The peer is given GPT-NeoX models alone; this is {config.model_type}.", "Take another."
        )
    rope = config.rope_parameters
    sizes = {name: getattr(config, name) for name in SIZES}
    sizes |= {"rotary_pct": rope["partial_rotary_factor"], "rotary_emb_base": rope["rope_theta"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lm.tokenizer.save_pretrained(folder / "tokenizer")
        given = {f"model.{key}": tensor for key, tensor in lm.model.state_dict().items()}
        for k, layer in enumerate(transcoders.tensors()):
            given |= {f"set.{k}.{key}": layer[key] for key in ("W_enc", "W_dec", "b_enc", "b_dec")}
        given |= {"ids": torch.tensor(list(ids)), "direction": direction_d.float()}
        save_file({key: t.detach().cpu().clone() for key, t in given.items()}, folder / "trace.safetensors")
        asked = {
            "folder": str(folder),
            "tokenizer": str(folder / "tokenizer" / "tokenizer.json"),
            "end": lm.tokenizer.eos_token,
            "config": sizes,
            "k": transcoders.layers[0].k,
            "nodes": list(nodes),
            "batches": BATCHES,
            "runs": runs,
            "threads": torch.get_num_threads(),
        }
        usual = {key: value for key, value in os.environ.items() if key not in VARIABLES}  # ours
        words = [python, str(benchmark_file("peer_circuit_tracer.py")), json.dumps(asked)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=usual)
        if done.returncode:
            raise ScxError(
                f"circuit-tracer did not trace in {python}: {done.stderr.strip().splitlines()[-1:]}",
                "Give the interpreter of an environment with `pip install circuit-tracer`.",
            )
        tensors = load_file(folder / "peer.safetensors")
    edges = {
        n: TargetEdges(
            [tuple(place) for place in tensors[f"place_{n}"].tolist()], tensors[f"edge_{n}"].tolist()
        )
        for n in nodes
    }
    return json.loads(done.stdout.strip().splitlines()[-1]), edges

"""The made-up model of Pythia-410m's dimensions: random weights and transcoders, in memory or in a folder.

What is measured on a folder is loaded from there as a person's own would be. The folder is written by a
process of its own (`write_apart`): whoever measures has held the weights once, as they are loaded, and not as
they were drawn; and memory that was freed and kept counts to nobody's peak.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerBase

from scx_core.bench.atlas import generated_atlas
from scx_core.bench.machine import in_own_process
from scx_core.environment import prepare_process
from scx_core.language import Language
from scx_core.language.architectures import architecture
from scx_core.runs import write_json
from scx_core.transcoders import Transcoder, TranscoderSet, save_set

# Folders beside each other: the last two where a job wants them.
MODEL, SET, OTHER_SET, ATLAS = "model", "transcoders", "other transcoders", "atlas"

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
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    labels: list[str],
    n_genes: int = 114,
    n_layers: int = PYTHIA_410M["num_hidden_layers"],
) -> None:
    """Write the model folder (1.6 GB in float32)."""
    _write_weights(folder, PYTHIA_410M | {"num_hidden_layers": n_layers})
    _write_words(folder, tokenizer, labels, n_genes)


def _write_weights(folder: Path, sizes: Mapping[str, Any]) -> None:
    torch.manual_seed(0)
    GPTNeoXForCausalLM(GPTNeoXConfig(**sizes)).save_pretrained(folder)


def _write_words(
    folder: Path, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], n_genes: int
) -> None:
    """The tokenizer and the contract. The tokenizer is filled up to the model's rows, as a model with another
    vocabulary than its tokenizer's is not loaded. The embedded tokenizer spells a gene in more pieces than
    Pythia's own: 114 genes are the 465 tokens or so that 200 genes are there."""
    tokenizer.save_pretrained(folder)
    with_entries(folder / "tokenizer.json", PYTHIA_410M["vocab_size"], len(tokenizer))
    sentences = {"n_genes": n_genes, "tie_seed": 42, "prompt": "scx"}
    record = {"name": "random 410m", "labels": list(labels), "sentences": sentences, "lead": " "}
    write_json(folder / "scx.json", record)


def with_entries(path: Path, wanted: int, known: int) -> None:
    """Fill up a saved tokenizer's vocabulary by entries that no merge leads to. As added tokens, all of them
    would be looked for in every text: a second for each answer, which no real checkpoint takes."""
    record = json.loads(path.read_text(encoding="utf-8"))
    record["model"]["vocab"] |= {f"<unused{i}>": i for i in range(known, wanted)}
    write_json(path, record)


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


def random_set(
    folder: Path, n_layers: int = 24, width: int = PYTHIA_410M["hidden_size"], seed: int = 0
) -> None:
    """Write random transcoders (1.6 GB)."""
    generator = torch.Generator().manual_seed(seed)
    layers = tuple(random_layer(generator, width) for _ in range(n_layers))
    save_set(folder, TranscoderSet(layers), {"name": f"random 8x, seed {seed}"})


def write_apart(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    n_genes: int = 114,
    n_layers: int = PYTHIA_410M["num_hidden_layers"],
    more: Sequence[str] = (),
) -> None:
    """Write `MODEL`, `SET` (3.2 GB) and `more` (`OTHER_SET`, 1.6 GB; `ATLAS`, of random numbers) into
    `folder`, all that is large by a process of its own. What is there stays. Raises ScxError where it cannot
    be written."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in (MODEL, SET, *more) if not (folder / name).exists()]
    if missing:
        sizes = json.dumps(PYTHIA_410M | {"num_hidden_layers": n_layers})
        in_own_process(__name__, folder, sizes, *missing)
    if MODEL in missing:
        _write_words(folder / MODEL, tokenizer, labels, n_genes)


def main(folder: Path, sizes: Mapping[str, Any], names: Sequence[str]) -> None:
    """Write these parts in this process."""
    for name in names:
        if name == MODEL:
            _write_weights(folder / name, sizes)
        elif name == ATLAS:
            generated_atlas(folder / name, sizes["num_hidden_layers"], 8 * sizes["hidden_size"])
        else:
            seed = int(name == OTHER_SET)
            random_set(folder / name, sizes["num_hidden_layers"], sizes["hidden_size"], seed)
    print(json.dumps({"written": list(names)}))


def random_language(
    device: torch.device, sizes: Mapping[str, Any] | None = None, tokenizer: Any = None, **record: Any
) -> Language:
    """A model of 410m dimensions (but for `sizes`) with random weights, in memory."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(**PYTHIA_410M | dict(sizes or {}))
    model: Any = GPTNeoXForCausalLM(config).eval().requires_grad_(False)
    model.to(device).set_attn_implementation("eager")  # which shows its patterns
    return Language(model, tokenizer, architecture(config), "random 410m", "random", record)


if __name__ == "__main__":
    prepare_process()
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])

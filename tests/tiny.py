"""Small random things shaped like the real ones: a cell table, a tokenizer, models of every family.

`tiny_language(folder)` is the way in: it writes a Hugging Face folder and loads it as a user's would be.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from scx_core.build.recipe import train_tokenizer
from scx_core.cells.cell_table import CellTable, answers_to
from scx_core.language import Language, load_language
from scx_core.runs import write_json
from scx_core.sentences import EncodedCell, encode, gene_sentences
from scx_core.transcoders import CrossLayerSet, Transcoder, TranscoderSet

LABELS = ("CD19+ B", "CD14+ Monocyte", "CD4+/CD25 T Reg", "CD4+/CD45RO+ Memory", "Dendritic")
GENES = (
    "CD79A CD79B MS4A1 HLA-DRA CD74 LYZ S100A8 S100A9 CST3 FCN1 IL7R CD3D CD3E LTB IL32 FOXP3 MT-CO1 RPL13 "
    "RPS27 B2M MALAT1 TMSB4X HLA-DPB1 C19ORF43 AC012345.1 ACTB FTL FTH1 EEF1A1 TPT1 1-MAB T"
)
SYMBOLS = tuple(GENES.split())
N_GENES = 12


@dataclass(eq=False)
class TinyTable:
    """A cell table that lives in memory; rows [C, G] are counts, every label has its own mean profile."""

    values: sparse.csr_matrix
    labels: np.ndarray
    symbols: np.ndarray
    name: str = "tiny"
    organism: str = "Homo sapiens"
    fingerprint: str = "tiny-cells"
    donors: np.ndarray | None = None
    values_kind: str = "counts"
    answer_of: Mapping[str, str] | None = None
    given_answers: Mapping[str, str] | None = None

    @property
    def answers(self) -> np.ndarray:
        return answers_to(self.labels, self.answer_of)

    @property
    def n_cells(self) -> int:
        return len(self.labels)

    @property
    def n_genes(self) -> int:
        return len(self.symbols)

    @property
    def cell_ids(self) -> np.ndarray:
        return np.array([f"cell{c}" for c in range(self.n_cells)], dtype=object)

    @property
    def types(self) -> list[str]:
        return sorted(set(self.labels.tolist()) - {""})

    cells_per_type = CellTable.cells_per_type

    def rows(self, indices) -> sparse.csr_matrix:
        return self.values[np.asarray(indices, dtype=np.int64)]


def tiny_table(n_cells: int = 20, seed: int = 0) -> TinyTable:
    """Cells of different depth, so that their sentences differ in length; labels take turns."""
    rng = np.random.default_rng(seed)
    labels = np.array([LABELS[c % len(LABELS)] for c in range(n_cells)], dtype=object)
    profiles = {label: rng.gamma(0.5, 3.0, len(SYMBOLS)) for label in LABELS}
    depth_C = rng.uniform(0.2, 1.5, n_cells)
    mean_CG = depth_C[:, None] * np.stack([profiles[label] for label in labels])
    counts = rng.poisson(mean_CG)
    counts[:, 0] += 1  # no cell without a gene
    return TinyTable(sparse.csr_matrix(counts.astype(np.float32)), labels, np.array(SYMBOLS, dtype=object))


@cache
def tiny_tokenizer(vocabulary: int = 330) -> PreTrainedTokenizerFast:
    """Byte-level BPE, small enough that genes fall into several tokens."""
    texts = [f"Homo sapiens cell, top 12 genes: {GENES}.\nCell type: {label}." for label in LABELS]
    return train_tokenizer(iter(texts), vocabulary)


@dataclass(frozen=True)
class Size:
    """Size of a tiny model: what every family's config is made from."""

    layers: int
    width: int
    heads: int
    act: str

    def common(self) -> dict:
        return {
            "vocab_size": len(tiny_tokenizer()) + 3,  # more rows than the tokenizer has tokens, as in Pythia
            "max_position_embeddings": 160,
            "tie_word_embeddings": False,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 0,
        }

    def modern(self) -> dict:
        """Llama's names; two heads share a value head, and a head is wider than width / heads."""
        return self.common() | {
            "hidden_size": self.width,
            "intermediate_size": 3 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 2 * self.heads,
            "num_key_value_heads": self.heads,
            "head_dim": self.width // self.heads,
        }


def _gpt_neox(size: Size, parallel: bool) -> GPTNeoXForCausalLM:
    config = GPTNeoXConfig(
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        hidden_act=size.act,
        rotary_pct=0.25,
        use_parallel_residual=parallel,
        **size.common(),
    )
    return GPTNeoXForCausalLM(config)


def _gpt2(size: Size) -> GPT2LMHeadModel:
    own = {"n_embd": size.width, "n_layer": size.layers, "n_head": size.heads, "n_positions": 160}
    common = {key: value for key, value in size.common().items() if key != "max_position_embeddings"}
    # With the embeddings tied, as the real ones are.
    return GPT2LMHeadModel(GPT2Config(**own, **common | {"tie_word_embeddings": True}))


def _llama(size: Size) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(attention_bias=True, mlp_bias=True, **size.modern()))


def _qwen2(size: Size) -> Qwen2ForCausalLM:
    # The upper layers see a window of 24 tokens only.
    window = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}
    shape = {key: value for key, value in size.modern().items() if key != "head_dim"}
    return Qwen2ForCausalLM(Qwen2Config(**window, **shape))


def _qwen3(size: Size) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(Qwen3Config(attention_bias=True, **size.modern()))


def _gemma2(size: Size) -> Gemma2ForCausalLM:
    # Caps that are felt: logits of the random models are of the order of 1 to 10.
    caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
    scalar = {"query_pre_attn_scalar": size.width // size.heads, "sliding_window": 24}
    return Gemma2ForCausalLM(Gemma2Config(attention_bias=True, **caps, **scalar, **size.modern()))


OTHER_FAMILIES = {"gpt2": _gpt2, "llama": _llama, "qwen2": _qwen2, "qwen3": _qwen3, "gemma2": _gemma2}


def tiny_model(
    *,
    family: str = "gpt_neox",
    parallel: bool = True,
    layers: int = 2,
    width: int = 16,
    heads: int = 2,
    act: str = "gelu",
    seed: int = 0,
) -> PreTrainedModel:
    """Random weights in float64, every bias and norm parameter away from its default.

    `parallel` and `act` are for GPT-NeoX.
    """
    size = Size(layers, width, heads, act)
    model = _gpt_neox(size, parallel) if family == "gpt_neox" else OTHER_FAMILIES[family](size)
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            if p.ndim >= 2:
                p.copy_(noise * (1.0 if _is_embedding(name) else 1.5 / p.shape[-1] ** 0.5))
            else:
                p.copy_(0.3 * noise + (1.0 if _is_norm_gain(name) and family != "gemma2" else 0.0))
    return model


def _is_embedding(name: str) -> bool:
    return any(word in name for word in ("embed_in", "embed_tokens", "wte", "wpe"))


def _is_norm_gain(name: str) -> bool:
    return name.endswith("weight") and any(word in name for word in ("norm", "ln_"))


def save_tiny(folder: Path, *, settings: dict | None = None, **model_options) -> Path:
    """Write a model folder: weights, tokenizer, and scx.json, to which `settings` adds."""
    tiny_model(**model_options).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    sentences = {"n_genes": N_GENES, "tie_seed": 1, "prompt": "scx"}
    own = {"name": "tiny", "labels": list(LABELS), "sentences": sentences, "lead": " "}
    write_json(Path(folder) / "scx.json", own | (settings or {}))
    return Path(folder)


def tiny_language(folder: Path, *, dtype: str = "float64", **options) -> Language:
    """`save_tiny`, then `load_language` on the CPU."""
    return load_language(save_tiny(folder, **options), device="cpu", dtype=dtype)


def tiny_cells(lm: Language, table: TinyTable | None = None) -> list[EncodedCell]:
    """The cells of a table (default: five) as the model wants them written."""
    table = table or tiny_table(5)
    cfg = lm.sentence_config
    sentences = gene_sentences(table, np.arange(table.n_cells), cfg.n_genes, cfg.tie_seed)
    fixed = {"organism": table.organism, "num_genes": cfg.n_genes}
    return [encode(lm.tokenizer, lm.prompt, genes, **fixed) for genes in sentences]


def renamed_table(names: dict[str, str] | None = None):
    """Thirty cells, some of whose labels have other names."""
    table = tiny_table(30)
    labels = np.array([(names or {}).get(label, label) for label in table.labels], dtype=object)
    return replace(table, labels=labels)


def random_set(lm, kind: str, skip: bool, seed: int = 1) -> TranscoderSet:
    """Random transcoders of every layer with non-zero biases, three features a dimension."""
    generator = torch.Generator().manual_seed(seed)
    d, n_features = lm.facts.width, 3 * lm.facts.width

    def draw(*shape, scale):
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    def layer():
        return Transcoder(
            W_enc_Fd=draw(n_features, d, scale=d**-0.5),
            b_enc_F=draw(n_features, scale=0.3),
            W_dec_Fd=draw(n_features, d, scale=d**-0.5),
            b_dec_d=draw(d, scale=0.3),
            W_skip_dd=draw(d, d, scale=0.3 * d**-0.5) if skip else None,
            kind=kind,
            k=6 if kind == "topk" else None,
            threshold_F=draw(n_features, scale=0.2).abs() if kind == "jumprelu" else None,
        )

    return TranscoderSet(tuple(layer() for _ in range(lm.facts.n_layers)))


def random_cross_set(lm, kind: str, skip: bool, seed: int = 1) -> CrossLayerSet:
    """The same, whose features write to all later layers too."""
    own, generator = random_set(lm, kind, skip, seed), torch.Generator().manual_seed(seed + 1)
    n, d, F = lm.facts.n_layers, lm.facts.width, own.n_features
    cross = tuple(
        torch.randn(n - 1 - m, F, d, generator=generator, dtype=torch.float64) * d**-0.5 for m in range(n)
    )
    return CrossLayerSet(own.layers, cross=cross)


def freed_at_once(held: list[torch.nn.Module]) -> bool:
    """Whether a model's weights are gone with the last who needs it, which is this list: the next model may
    need their memory before Python's collector comes by."""
    weights = [weakref.ref(weight) for weight in held[0].parameters()]
    gc.collect()
    gc.disable()
    try:
        held.clear()
        return not any(weight() is not None for weight in weights)
    finally:
        gc.enable()

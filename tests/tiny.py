"""Small random things shaped like the real ones: a cell table, a tokenizer, GPT-NeoX models in a folder.

`tiny_language(folder)` is the way in: it writes a Hugging Face folder and loads it as a user's would be.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from scx_core.language import Language, load_language
from scx_core.language.recipe import train_tokenizer
from scx_core.runs import write_json
from scx_core.sentences import EncodedCell, encode, gene_sentences

LABELS = ("CD19+ B", "CD14+ Monocyte", "CD4+/CD25 T Reg", "CD4+/CD45RO+ Memory", "Dendritic")
GENES = (
    "CD79A CD79B MS4A1 HLA-DRA CD74 LYZ S100A8 S100A9 CST3 FCN1 IL7R CD3D CD3E LTB IL32 FOXP3 MT-CO1 RPL13 "
    "RPS27 B2M MALAT1 TMSB4X HLA-DPB1 C19ORF43 AC012345.1 ACTB FTL FTH1 EEF1A1 TPT1 1-MAR T"
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

    @property
    def n_cells(self) -> int:
        return len(self.labels)

    @property
    def n_genes(self) -> int:
        return len(self.symbols)

    @property
    def types(self) -> list[str]:
        return sorted(set(self.labels.tolist()) - {""})

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


def tiny_model(
    *,
    parallel: bool = True,
    layers: int = 2,
    width: int = 16,
    heads: int = 2,
    act: str = "gelu",
    seed: int = 0,
) -> GPTNeoXForCausalLM:
    """Random weights in float64, every bias and norm parameter away from its default."""
    config = GPTNeoXConfig(
        vocab_size=len(tiny_tokenizer()) + 3,  # more rows than the tokenizer has tokens, as in Pythia
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=160,
        hidden_act=act,
        rotary_pct=0.25,
        use_parallel_residual=parallel,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    generator = torch.Generator().manual_seed(seed)
    model = GPTNeoXForCausalLM(config).double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            if p.ndim >= 2:
                p.copy_(noise * (1.0 if "embed_in" in name else 1.5 / p.shape[-1] ** 0.5))
            else:
                p.copy_(0.3 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
    return model


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

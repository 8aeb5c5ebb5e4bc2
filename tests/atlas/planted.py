"""A model and a set of features whose meaning is known, because it was built in.

In a parallel block the first MLP sees nothing but the token that stands there. With as many dimensions as
tokens, an encoder row can be solved for any wish "so much at this token": so features read exactly the
tokens that they are given.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from scx_core.language import Language, mlp_io
from scx_core.sentences import answer_ids
from scx_core.transcoders import Transcoder, TranscoderSet
from tests.tiny import LABELS, SYMBOLS, TinyTable, tiny_cells, tiny_language

WIDTH = 256
KINDS = ("gene", "spelling", "prompt", "polysemantic", "dead")


class Planted(NamedTuple):
    """`truth` says of each feature its kind, `genes` the genes that it reads (of the kind "gene")."""

    lm: Language
    transcoders: TranscoderSet
    table: TinyTable
    truth: list[str]
    genes: list[frozenset[str]]


def even_table(n_cells: int = 120, seed: int = 0) -> TinyTable:
    """Every gene is as likely as any other in any cell, at any rank."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.permutation(len(SYMBOLS)) + 1 for _ in range(n_cells)])
    labels = np.array([LABELS[c % len(LABELS)] for c in range(n_cells)], dtype=object)
    return TinyTable(sparse.csr_matrix(values.astype(np.float32)), labels, np.array(SYMBOLS, dtype=object))


def planted(folder: Path, leak: float = 0.005, seed: int = 0) -> Planted:
    """Gene features read one to three genes at tokens that no other gene has; `leak` is what every feature
    but the dead ones has, besides, at a tenth of all tokens."""
    rng = np.random.default_rng(seed)
    lm, table = tiny_language(folder, layers=1, width=WIDTH), even_table()
    owners: dict[int, set[str]] = defaultdict(set)
    # Answers are read too, and their tokens are no gene's.
    prompt = {token for label in LABELS for token in answer_ids(lm.tokenizer, label, " ")}
    for cell in tiny_cells(lm, table):
        for token, gene in list(zip(cell.ids, cell.gene_at(), strict=True))[1:]:
            (owners[token].add(gene) if gene else prompt.add(token))
    private: dict[str, list[int]] = defaultdict(list)
    for token, genes in owners.items():
        if len(genes) == 1 and token not in prompt:
            private[next(iter(genes))].append(token)
    wide = [token for token, genes in owners.items() if len(genes) >= 6 and token not in prompt]
    only_prompt = sorted(set(prompt) - set(owners))
    known = sorted(private)
    tokens = sorted({*owners, *prompt})
    truth, genes, wishes = [], [], []
    for number in range(100):
        kind = KINDS[0] if number < 60 else KINDS[1 + number % 4]
        read = (
            frozenset(rng.choice(known, 1 + number % 3, replace=False).tolist())
            if kind == "gene"
            else frozenset()
        )
        at = {
            "gene": [token for gene in read for token in private[gene]],
            "spelling": rng.choice(wide, 1).tolist() if wide else [],
            "prompt": rng.choice(only_prompt, 3, replace=False).tolist(),
            "polysemantic": [private[gene][0] for gene in rng.choice(known, 15, replace=False)],
            "dead": [],
        }[kind]
        wish = np.zeros(len(tokens))
        if kind != "dead":
            wish[rng.choice(len(tokens), len(tokens) // 10, replace=False)] = leak
            wish[[tokens.index(token) for token in at]] = rng.uniform(1, 2)
        truth.append(kind), genes.append(read), wishes.append(wish)
    return Planted(lm, _solved(lm, tokens, np.stack(wishes)), table, truth, genes)


def _solved(lm: Language, tokens: list[int], wish_FV: np.ndarray) -> TranscoderSet:
    """The encoder that answers each token with what is wished for."""
    ids_V1 = torch.tensor(tokens)[:, None]
    x_Vd = mlp_io(lm, ids_V1, torch.ones_like(ids_V1)).inputs[0][:, 0]
    W_enc = (torch.linalg.pinv(x_Vd) @ torch.from_numpy(wish_FV).T).T
    n = len(wish_FV)
    decoder = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # What rounding leaves is no activation.
    threshold = torch.full((n,), 1e-6, dtype=torch.float64)
    zeros = torch.zeros(n, dtype=torch.float64)
    coder = Transcoder(
        W_enc, zeros, decoder, torch.zeros(WIDTH).double(), kind="jumprelu", threshold_F=threshold
    )
    return TranscoderSet((coder,), {"name": "planted"})

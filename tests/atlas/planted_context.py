"""A model whose second block sees how often each token stood before, and features that read it.

The first block's attention is made even (queries and keys 0) and copies what it looks at: behind it, the
stream holds the mean over the tokens so far. An encoder row for "gene B stood before" is then solved for.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from scx_core.language import Language, mlp_io
from scx_core.sentences import answer_ids
from scx_core.transcoders import Transcoder, TranscoderSet
from tests.atlas.planted import WIDTH, even_table
from tests.tiny import TinyTable, tiny_cells, tiny_language


class PlantedContext(NamedTuple):
    """Of each feature of layer 1 the gene that it reads as context, "" for one that reads a token only."""

    lm: Language
    transcoders: TranscoderSet
    table: TinyTable
    reads: list[str]


def planted_context(folder: Path, each: int = 6) -> PlantedContext:
    """Features that fire wherever a gene stood before, then such that fire at one token."""
    lm, table = tiny_language(folder, layers=2, width=WIDTH, heads=1), even_table(120)
    _even_attention(lm, 3.0)
    x_Nd, id_N, before_N = _seen(lm, table)
    rng = np.random.default_rng(0)
    genes = sorted({gene for before in before_N for gene in before})
    reads = rng.choice(genes, each, replace=False).tolist()
    common = [token for token, n in zip(*np.unique(id_N, return_counts=True), strict=True) if 50 < n < 100]
    tokens = rng.choice(common, each, replace=False)
    wishes = [[gene in before for before in before_N] for gene in reads] + [id_N == one for one in tokens]
    coder = _solved(x_Nd, np.array(wishes, dtype=float))
    return PlantedContext(lm, TranscoderSet((coder, coder), {"name": "planted"}), table, reads + [""] * each)


@torch.no_grad()
def _even_attention(lm: Language, gain: float) -> None:
    """Queries and keys 0, values and output the identity: the mean over the tokens so far, times the gain."""
    attention = lm.part(0, "attn")
    weight, eye = attention.query_key_value.weight, torch.eye(WIDTH, dtype=torch.float64)
    weight.zero_()
    weight[2 * WIDTH :] = eye
    attention.query_key_value.bias.zero_()
    attention.dense.weight.copy_(gain * eye)
    attention.dense.bias.zero_()


def _seen(lm: Language, table: TinyTable) -> tuple[torch.Tensor, np.ndarray, list[frozenset[str]]]:
    """What the second MLP receives at all tokens but the first, answers included, the tokens' ids, and the
    genes that stood before."""
    parts, ids, befores = [], [], []
    for cell, label in zip(tiny_cells(lm, table), table.labels, strict=True):
        text = [*cell.ids, *answer_ids(lm.tokenizer, label, " ")]
        one_T = torch.tensor([text])
        parts.append(mlp_io(lm, one_T, torch.ones_like(one_T)).inputs[1][0, 1:])
        ids += text[1:]
        ends = [(span.end, span.gene) for span in cell.spans]
        befores += [frozenset(gene for end, gene in ends if end <= t) for t in range(1, len(text))]
    return torch.cat(parts), np.array(ids), befores


def _solved(x_Nd: torch.Tensor, wish_FN: np.ndarray) -> Transcoder:
    """Least squares with an intercept; active above one half."""
    ones_N1 = torch.ones(len(x_Nd), 1, dtype=x_Nd.dtype)
    W_Fe = torch.linalg.lstsq(torch.cat([x_Nd, ones_N1], 1), torch.from_numpy(wish_FN).T).solution.T
    n = len(wish_FN)
    decoder = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    half, zeros = torch.full((n,), 0.5).double(), torch.zeros(WIDTH).double()
    return Transcoder(
        W_Fe[:, :-1].contiguous(), W_Fe[:, -1].contiguous(), decoder, zeros, kind="jumprelu", threshold_F=half
    )

"""The automatic label of a feature: a few words from its verdict and the evidence."""

from __future__ import annotations

from typing import Any

from scx_core.atlas.judge.protocol import (
    CONTEXT,
    DEAD,
    FAMILY,
    GENE,
    POSITION,
    PROMPT,
    RARE,
    SET,
    SPELLING,
    TOKEN,
    TYPE,
)

NAMED = 3  # genes or pieces that a label names
CONTEXT_OF_MANY = "context: at many genes"  # no gene that it reads stands out, and none that it stands at


def automatic_label(row: Any) -> str:
    """`row` has the columns of features.parquet, and `pieces`: the strongest pieces of text, of a feature of
    the prompt those that stand in no gene."""
    genes = ", ".join(row.genes.split(" ")[:NAMED]) if row.genes else ""
    pieces = ", ".join(f"“{piece.strip() or piece}”" for piece in row.pieces[:NAMED])
    words = {
        DEAD: "dead",
        RARE: f"rare: {genes}" if genes else "rare",
        CONTEXT: _context(row, genes),
        TOKEN: _token(row, pieces),
        GENE: genes,
        FAMILY: f"{row.family} genes",
        SET: row.gene_set,
        TYPE: f"in {row.cell_type}",
        POSITION: f"ranks {row.ranks}",
        SPELLING: f"spelling {pieces}",
        PROMPT: f"prompt {pieces}".rstrip(),
    }
    return words.get(row.verdict) or (f"mixed: {genes}" if genes else "mixed")


def _token(row: Any, pieces: str) -> str:
    """ "token “74” (CD74)"; tokens only where those named hold most, and so the gene."""
    if row.pieces_share < 0.5:
        return "many tokens"
    words = f"token {pieces}" if len(row.pieces) == 1 else f"tokens {pieces}"
    gene = str(row.top_gene or "")
    return f"{words} ({gene})" if row.n_half == 1 and gene else words


def _context(row: Any, genes: str) -> str:
    """ "context: reads CD79A, at CD74, HLA-DRA"; without a gene that stands out, only where it fires."""
    read = getattr(row, "context_genes", "") or ""
    words = ", ".join(read.split(" ")[:NAMED])
    if not words and row.gene >= 0.5 and row.top5 < 0.5:
        return CONTEXT_OF_MANY
    at = "prompt and answer" if row.gene < 0.5 else genes if row.top5 >= 0.5 else "many genes"
    return f"context: reads {words}, at {at}" if words else f"context: at {at}"

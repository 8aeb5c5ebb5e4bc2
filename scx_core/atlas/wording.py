"""The automatic label of a feature: a few words from its verdict and the evidence."""

from __future__ import annotations

from typing import Any

from scx_core.atlas.protocol import DEAD, FAMILY, GENE, POSITION, PROMPT, RARE, SET, SPELLING, TYPE

NAMED = 3  # genes or pieces that a label names


def automatic_label(row: Any) -> str:
    """`row` has the columns of features.parquet, and `pieces`: the strongest pieces of text."""
    genes = ", ".join(row.genes.split(" ")[:NAMED]) if row.genes else ""
    pieces = ", ".join(f"“{piece.strip() or piece}”" for piece in row.pieces[:NAMED])
    words = {
        DEAD: "dead",
        RARE: f"rare: {genes}" if genes else "rare",
        GENE: genes,
        FAMILY: f"{row.family} genes",
        SET: row.gene_set,
        TYPE: f"in {row.cell_type}",
        POSITION: f"ranks {row.ranks}",
        SPELLING: f"spelling {pieces}",
        PROMPT: f"prompt {pieces}",
    }
    return words.get(row.verdict) or (f"mixed: {genes}" if genes else "mixed")

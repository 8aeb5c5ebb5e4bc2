"""Whether names of features are true by the atlas' own figures, beside names by what drives a feature."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scx_core.atlas import Atlas
from scx_core.circuits import Circuit
from scx_core.circuits.circuit import Node
from scx_core.circuits.feature_names import GENE_SHARE
from scx_core.statistics.claim import Claim
from scx_core.statistics.intervals import wilson

STRONGEST = 30
AT_A_GENE = "gene"  # kind of a name that is a list of genes


def name_claims(circuits: Sequence[Circuit], atlas: Atlas) -> list[Claim]:
    """For each circuit: that the names of its `STRONGEST` named features, by influence, are true.

    A name of genes is true where at least `GENE_SHARE` of the feature's activation lies at them, read anew
    from the atlas' table; any other says what it is (prompt, position, context, a token, …) and is true where
    the share that it rests on is as large. The rival: naming a feature after the gene that drives it.
    """
    share = atlas.table("genes").set_index(["layer", "feature", "gene"])["share"]
    return [_of(circuit, share) for circuit in circuits]


def _of(circuit: Circuit, share: pd.Series) -> Claim:
    features = [node for node in circuit.nodes if node.kind == "feature" and node.name]
    strongest = sorted(features, key=lambda node: (-node.influence, node.id))[:STRONGEST]
    true = [_true(node, share) for node in strongest]
    driven = [_at(share, node, [node.driven_by or ""]) >= GENE_SHARE for node in strongest]
    n, by_gene = len(strongest), sum(node.name_kind == AT_A_GENE for node in strongest)
    return Claim(
        f"The names of the {n} strongest named features of {circuit.target.answer} say what they are "
        "active at.",
        sum(true) / max(1, n),
        sum(driven) / max(1, n),
        f"named after the gene that drives it ({by_gene} of the names are genes)",
        wilson(sum(true), n)[:2],
        n,
        n > 0 and all(true),
    )


def _true(node: Node, share: pd.Series) -> bool:
    if node.name_kind == AT_A_GENE:
        return _at(share, node, (node.name or "").split(", ")) >= GENE_SHARE
    return node.name_share is None or node.name_share >= GENE_SHARE


def _at(share: pd.Series, node: Node, genes: Sequence[str]) -> float:
    """Share of the feature's activation at these genes, by the atlas."""
    return float(sum(share.get((node.layer, node.feature, gene), 0.0) for gene in genes))

"""Whether names of features are true by the atlas' own figures, beside names by what drives a feature; and
what an atlas lets one say of its features, beside random directions."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scx_core.atlas import Atlas
from scx_core.atlas.judge.excess import ALL_LAYERS, excess
from scx_core.atlas.judge.protocol import (
    AT_GENES,
    BEYOND_TOKEN,
    BY_CONTEXT,
    BY_TOKEN,
    FAMILY,
    GENE,
    IN_TYPE,
)
from scx_core.circuits import Circuit
from scx_core.circuits.circuit import Node
from scx_core.circuits.feature_names import GENE_SHARE
from scx_core.claims.claim import Claim
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


SENTENCES = {
    AT_GENES: "More features than random directions fire at a few genes",
    BEYOND_TOKEN: "More features than random directions fire at a few genes and are more than a token",
    BY_TOKEN: "More features than random directions are a table by token",
    BY_CONTEXT: "More features than random directions read other genes than the one they stand at",
    IN_TYPE: "More features than random directions fire in one cell type",
    GENE: "The verdict gene tells features from random directions",
    FAMILY: "The verdict family tells features from random directions",
}
ONE_HOT_SENTENCE = "More features than tokens (one-hot) fire at a few genes"
OWN_LAYER = "Layer {layer}: more features than random directions fire at a few genes"


def atlas_claims(atlas: Atlas) -> list[Claim]:
    """The sentences that an atlas supports or refuses. One holds when the whole interval of the excess over
    random directions lies above 0. `figure` and `baseline` are shares, `interval` that of the excess, `n` the
    live features. Empty for an atlas without random directions."""
    held = excess(atlas)
    if held.empty:
        return []
    rows = held.set_index(["measure", "layer"])
    found = [
        _claim(sentence, rows.loc[(measure, ALL_LAYERS)])
        for measure, sentence in SENTENCES.items()
        if (measure, ALL_LAYERS) in rows.index
    ]
    layers = sorted({layer for _, layer in rows.index if layer != ALL_LAYERS})
    found += [_claim(OWN_LAYER.format(layer=layer), rows.loc[(AT_GENES, layer)]) for layer in layers]
    row = rows.loc[(AT_GENES, ALL_LAYERS)]
    if "onehot" in row:
        share, one_hot = float(row["share"]), float(row["onehot"])
        found.append(
            Claim(
                ONE_HOT_SENTENCE,
                share,
                one_hot,
                "the token's one-hot",
                None,
                int(row["features"]),
                share > one_hot,
            )
        )
    for one in atlas.meta.get("gene_sets", {}).get("rule", ()):
        if one["rival"] == "random directions":
            sentence = f"More features than random directions meet the rule for gene sets ({one['of']})"
            found.append(_claim(sentence, pd.Series({**one, "random": one["rival_share"]})))
    return found


def _claim(sentence: str, row: pd.Series) -> Claim:
    interval = float(row["low"]), float(row["high"])
    beside = f"random directions at equal firing rates ({int(row['draws'])} draws); interval of the excess"
    figures = float(row["share"]), float(row["random"])
    return Claim(sentence, *figures, beside, interval, int(row["features"]), interval[0] > 0)

"""What a consensus, a difference and a tie check let one say: each sentence with its figure, the figure that
could embarrass it, its interval, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scx_core.circuits.circuit import Circuit, GeneEffect
from scx_core.circuits.difference import Difference
from scx_core.circuits.stability import TieStability
from scx_core.circuits.words.wording import CHOSEN, FAMILIES
from scx_core.claims.claim import Claim
from scx_core.sentences import Ties
from scx_core.statistics.hypothesis_tests import Q

STRONGEST = 10


def consensus_claims(circuit: Circuit) -> list[Claim]:
    """The sentences that a consensus supports or refuses: its strongest genes, one by one and together.

    That a gene differs from 0 does not make it important: rank-matched genes stand beside that elsewhere
    (scx_core.evidence.rankings.rankings).
    """
    strongest = _strongest(circuit.genes)
    record, answer = _record(circuit), circuit.target.answer or circuit.target.label
    families = record.get("families", {})
    verb = {True: "raises", False: "lowers"}
    claims = [
        Claim(
            f"{gene.gene} {verb[gene.effect > 0]} the answer {answer} in the frozen model.",
            gene.effect,
            0.0,
            "no effect",
            _interval(gene),
            circuit.n_cells,
            _significant(gene),
        )
        for gene in strongest
    ]
    n_significant = sum(map(_significant, strongest))
    genes = families.get("genes", {"found": 0, "tested": 1})
    claims.append(
        Claim(
            f"The {len(strongest)} strongest genes of the circuit of {answer} all have an effect that is "
            "told from 0.",
            n_significant / max(1, len(strongest)),
            genes["found"] / max(1, genes["tested"]),
            f"all {genes['tested']} genes",
            None,
            circuit.n_cells,
            n_significant == len(strongest),
        )
    )
    return claims + _on_units(circuit)


def difference_claims(found: Difference) -> list[Claim]:
    """The sentences that a difference supports or refuses: that genes, features and edges differ, beside
    random halves of the first side; and its strongest genes, each with the side where it is higher."""
    circuit, (first, second) = found.difference, found.names
    families, claims = _record(circuit).get("families", {}), []
    for name in FAMILIES:
        one = families.get(name)
        if not one or not one["tested"]:
            continue
        split = one["null_split"]
        claims.append(
            Claim(
                f"{one['found']} of {one['tested']} {name} differ between {first} and {second} (q < {Q}"
                + (")." if name == "genes" else f"; {CHOSEN})."),
                one["found"] / one["tested"],
                split["mean"] / split["tested"] if split else None,
                f"random halves of {first} (mean; interval: their range)",
                (split["least"] / split["tested"], split["most"] / split["tested"]) if split else None,
                circuit.n_cells,
                bool(split) and one["found"] / one["tested"] > split["most"] / split["tested"],
            )
        )
    for gene in _strongest(circuit.genes):
        higher, lower = (first, second) if gene.effect > 0 else (second, first)
        sentence = f"In the frozen model {gene.gene} adds more to the answer in {higher} than in {lower}."
        claims.append(
            Claim(
                sentence,
                abs(gene.effect),
                0.0,
                "no difference",
                _interval(gene, turned=gene.effect < 0),
                circuit.n_cells,
                _significant(gene),
            )
        )
    return claims + _on_units(circuit)


def tie_claims(ties: Ties, stability: TieStability | None = None) -> list[Claim]:
    """That sentences are the cell's and not the seed's, and that the strongest genes do not depend on it:
    other tie orders move them less than other cells do (the baseline: random halves of the cells)."""
    claims = [
        Claim(
            "Which genes are in a sentence is decided by their expression.",
            1 - ties.member,
            1.0,
            "no tie at the end of a sentence",
            (1 - ties.high, 1 - ties.low),
            ties.n_cells,
            ties.member == 0,
        )
    ]
    for top, (mean, least) in stability.jaccard.items() if stability else ():
        halves = stability.halves[top][0] if stability else None
        claims.append(
            Claim(
                f"The {top} strongest genes hardly depend on the order of ties (Jaccard index of seeds).",
                mean,
                halves,
                "random halves of the cells",
                (least, 1.0),
                stability.n_cells if stability else 0,
                halves is not None and mean > halves,
            )
        )
    return claims


def _record(circuit: Circuit) -> Mapping[str, Any]:
    return circuit.provenance.get("statistics") or {}


def _strongest(genes: Sequence[GeneEffect]) -> list[GeneEffect]:
    return sorted(genes, key=lambda gene: (-abs(gene.effect), gene.gene))[:STRONGEST]


def _significant(gene: GeneEffect) -> bool:
    return gene.q is not None and gene.q < Q


def _interval(gene: GeneEffect, turned: bool = False) -> tuple[float, float] | None:
    if gene.low is None or gene.high is None:
        return None
    return (-gene.high, -gene.low) if turned else (gene.low, gene.high)


def _on_units(circuit: Circuit) -> list[Claim]:
    """Whether the intervals speak of other donors."""
    record = _record(circuit)
    if not record:
        return []
    donors = record["unit"] == "donors"
    return [
        Claim(
            "The intervals and tests hold for other donors.",
            float(min(record["units"])) if donors else 0.0,
            2.0,
            "donors that are needed at least",
            None,
            circuit.n_cells,
            donors,
        )
    ]

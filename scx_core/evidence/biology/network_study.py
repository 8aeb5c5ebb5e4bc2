"""All ways of joining genes beside one another on one network: the study and its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scx_core.atlas import Atlas
from scx_core.circuits import ConsensusConfig, Tracer
from scx_core.errors import ScxError
from scx_core.evidence.biology.conditions import gene_mass
from scx_core.evidence.biology.network import (
    CIRCUITS,
    COEXPRESSION,
    FEATURES,
    SPELLING,
    TOGETHER,
    UNLIKE,
    Enrichment,
    NetworkConfig,
    circuit_slots,
    enrichment,
    feature_slots,
    graph_hits,
    measures,
    relations,
    strongest_pairs,
)
from scx_core.evidence.biology.perturbation_tables import number
from scx_core.evidence.rankings.rankings import markdown, plain
from scx_core.runs.options import to_dict
from scx_core.runs.progress import Progress, silent

FEWEST_CELLS = 8  # of a type whose circuit is traced
FEW_HITS = 10  # expected hits below which folds are left to chance


class NetworkStudy(NamedTuple):
    """Enrichments of every way; `counts`: of each relation the curated edges and factors that reach the
    `genes` genes, of `in_file` edges in the file."""

    rows: tuple[Enrichment, ...]
    genes: int
    counts: dict[str, tuple[int, int]]
    in_file: int
    n_cells: int
    circuits: tuple[str, ...]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, None for what is undefined."""
        rows = [
            {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in row
            }
            for row in (one._asdict().items() for one in self.rows)
        ]
        return self._asdict() | {"rows": rows}


def network_study(
    tracer: Tracer,
    atlas: Atlas | None,
    edges: Sequence[tuple[str, str]],
    cfg: NetworkConfig | None = None,
    progress: Progress = silent,
) -> NetworkStudy:
    """Are pairs of genes that features or circuits join curated edges more often than a null that keeps
    degrees, and than pairs of plain counts? Raises ScxError when fewer than two edges reach the genes."""
    cfg = cfg or NetworkConfig()
    sentences = tracer.lm.sentence_config
    held = measures(tracer.table, sentences.n_genes, sentences.tie_seed, cfg)
    related, n_genes = relations(edges, held.genes, cfg), len(held.genes)
    if not related:
        raise ScxError(
            f"Fewer than two edges reach the {n_genes} genes of the sentences of {tracer.table.name}.",
            "Give a network of these genes, or cells with more genes.",
        )
    slots = {FEATURES: feature_slots(feature_genes(tracer, atlas, held.genes, cfg), held.genes, cfg.genes)}
    circuits = _circuits(tracer, cfg, progress)
    if circuits:
        slots[CIRCUITS] = circuit_slots(circuits, held.genes, cfg.genes)
    scores = {name: one.scores(n_genes) for name, one in slots.items()}
    scores |= {COEXPRESSION: held.coexpression_GG, TOGETHER: held.together_GG}
    unlike_GG = (held.spelling_GG == 0).astype(float)
    for name in list(scores):
        scores[name + UNLIKE] = scores[name] * unlike_GG
    scores[SPELLING] = held.spelling_GG
    rewired = {}
    for done, (name, one) in enumerate(slots.items()):
        for suffix, kept_GG in (("", np.ones_like(unlike_GG)), (UNLIKE, unlike_GG)):
            progress(done, len(slots), f"rewirings of {name}{suffix}")
            rewired[name + suffix] = graph_hits(one, kept_GG, cfg.numbers, related, cfg)
    progress(len(slots), len(slots), "")
    rng, rows = np.random.default_rng([cfg.seed, 4]), []
    for n in cfg.numbers:
        for way, score_GG in scores.items():
            joined_GG = strongest_pairs(score_GG, n, rng)
            for relation in related:
                rewired_K = rewired[way][relation.name, n] if way in rewired else None
                rows.append(enrichment(way, joined_GG, n, relation, held.genes, rewired_K))
    counts = {one.name: (len(one.edge_E2), len(np.unique(one.edge_E2[:, 0]))) for one in related}
    about = tracer.about({"network": to_dict(cfg)}, seed=cfg.seed)
    in_order = tuple(sorted(rows, key=lambda row: [one.name for one in related].index(row.relation)))
    return NetworkStudy(in_order, n_genes, counts, len(edges), held.n_cells, tuple(circuits), about)


def feature_genes(
    tracer: Tracer, atlas: Atlas | None, genes: Sequence[str], cfg: NetworkConfig
) -> pd.DataFrame:
    """Shares of activation by gene (layer, feature, gene, share): the atlas', or read from some cells."""
    if atlas is not None:
        return atlas.table("genes")
    labelled = np.flatnonzero(tracer.table.labels != "")
    rows = np.random.default_rng([cfg.seed, 5]).permutation(labelled)[: cfg.feature_cells]
    mass_GF, all_F = gene_mass(tracer, np.sort(rows), genes)
    found, n_features = mass_GF.tocoo(), tracer.transcoders.n_features
    layer, feature = np.divmod(found.col, n_features)
    share = found.data / all_F[found.col]
    return pd.DataFrame(
        {"layer": layer, "feature": feature, "gene": np.array(genes)[found.row], "share": share}
    )


def _circuits(tracer: Tracer, cfg: NetworkConfig, progress: Progress) -> dict[str, Any]:
    """Consensus circuits of every type that the model has an answer for."""
    if not cfg.circuit_cells:
        return {}
    counts = tracer.table.cells_per_type()
    labels = [str(name) for name, n in counts.items() if n >= FEWEST_CELLS]
    found = {}
    for done, label in enumerate(labels):
        progress(done, len(labels), label)
        try:
            answer = tracer.answer_for(label)
        except ScxError:
            continue
        found[label] = tracer.consensus(
            label, answer=answer, cfg=ConsensusConfig(cells=cfg.circuit_cells, seed=cfg.seed)
        )
    progress(len(labels), len(labels), "")
    return found


def network_tables(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """Everything that `scx evidence network` says."""
    table = markdown if as_markdown else plain
    header: tuple[str, ...] = (
        "relation",
        "pairs by",
        "pairs",
        "hits",
        "expected",
        "fold [95% over factors]",
        "p",
    )
    header = (*header, "fold, graph rewired", "p")
    rows: list[tuple[str, ...]] = [
        (
            one["relation"],
            one["way"],
            str(one["pairs"]),
            str(one["hits"]),
            number(one["expected"], 1),
            f"{number(one['fold'])} [{number(one['low'])}, {number(one['high'])}]",
            number(one["p"], 3),
            number(one["graph_fold"]),
            number(one["graph_p"], 3),
        )
        for one in result["rows"]
    ]
    lines = [
        f"Of {result['in_file']} curated edges; universe: the {result['genes']} genes of the sentences. "
        f"Co-expression and co-occurrence from {result['n_cells']} cells, circuits of "
        f"{len(result['circuits'])} types. Expected: mean hits over rewired curated edges (degrees kept).",
        table(header, rows),
    ]
    for name, (edges, factors) in result["counts"].items():
        most = max(one["expected"] for one in result["rows"] if one["relation"] == name)
        few = "; so few leave folds to chance, nothing can be said" if most < FEW_HITS else ""
        lines.append(f"{name}: {edges} edges of {factors} factors, at most {most:.1f} hits expected{few}.")
    return "\n\n".join(lines)

"""Is a type's circuit the same over cells, donors, tie orders, templates and transcoder sets?

Each time the twenty strongest genes (mean frozen attribution) of two circuits are compared by their Jaccard
index: random halves of the cells (several), halves that share no donor, other orders of tied genes, other
prompts that the model was trained on, and other transcoder sets of the same model. Beside each stands the
index that genes of the same ranks, drawn at random for both, have by chance. What was not asked says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from scx_core.attribution.replacement_model import replacement
from scx_core.circuits import Tracer
from scx_core.circuits.stability import SPLITS, by_size, jaccard, trained_on, with_prompt, with_ties
from scx_core.evidence.rankings.rankers import rank_matched
from scx_core.transcoders import TranscoderSet

TOP, DRAWS = 20, 50
TIE_SEEDS, PROMPTS = (1, 2), 3  # other orders of ties; templates at most

Cells = Sequence[Mapping[str, float]]


def steadiness_of(
    tracer: Tracer,
    answer: str,
    cells: Cells,
    rows: np.ndarray,
    places: Mapping[str, float],
    others: Sequence[TranscoderSet] = (),
    varied: int = 12,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """What was varied, in JSON: `what`, `jaccard` (mean over comparisons; low and high are the least and the
    most), `spearman` left to the questions on stability, `chance`, `n` cells, `units`, or `why` it was not
    asked. `cells`: each row's frozen attribution by gene; ties, templates and sets are varied on the first
    `varied` of the rows."""
    rng = np.random.default_rng(seed)
    some, few = rows[:varied], cells[:varied]
    chance = _chance(_top(cells), places, rng)
    found = [_part("cells", [_halves(cells, rng) for _ in range(SPLITS)], chance, len(rows))]
    found.append(_donors(tracer, cells, rows, chance))
    tied = [_effects(with_ties(tracer, tie), some, answer) for tie in TIE_SEEDS]
    found.append(_part("ties", _pairs([few, *tied]), chance, len(some)))
    prompts = [name for name in trained_on(tracer.lm) if name != tracer.lm.sentence_config.prompt]
    if prompts:
        asked = [_effects(with_prompt(tracer, name), some, answer) for name in prompts[:PROMPTS]]
        found.append(_part("templates", _pairs([few, *asked]), chance, len(some)))
    else:
        found.append(_not_asked("templates", "the model was trained on one template"))
    if others:
        made = [_effects(_with_set(tracer, coders), some, answer) for coders in others]
        found.append(
            _part("seeds", _pairs([few, *made]), chance, len(some)) | {"sets": [o.name for o in others]}
        )
    else:
        found.append(_not_asked("seeds", "no other transcoder set of this model was given"))
    return found


def _effects(tracer: Tracer, rows: np.ndarray, answer: str) -> list[dict[str, float]]:
    return [{gene.gene: gene.effect for gene in tracer.gene_effects(int(row), answer)} for row in rows]


def _with_set(tracer: Tracer, coders: TranscoderSet) -> Tracer:
    return replace(tracer, transcoders=coders, rep=replacement(tracer.lm, coders))


def _top(cells: Cells) -> list[str]:
    """The strongest genes by |mean effect|, a cell without the gene counting as 0."""
    sums: dict[str, float] = {}
    for cell in cells:
        for gene, effect in cell.items():
            sums[gene] = sums.get(gene, 0.0) + effect
    return by_size(sums)[:TOP]


def _halves(cells: Cells, rng: np.random.Generator) -> float:
    order = rng.permutation(len(cells))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    return jaccard(_top([cells[c] for c in first]), _top([cells[c] for c in second]))


def _donors(tracer: Tracer, cells: Cells, rows: np.ndarray, chance: float) -> dict[str, Any]:
    """Every split of the donors into one and the others; not asked with fewer than two."""
    donors = tracer.donors(rows)
    names = sorted(set(donors or []) - {""})
    if donors is None or len(names) < 2:
        return _not_asked("donors", "no donors known" if not names else "one donor only")
    found = []
    for name in names:
        own = [cell for cell, donor in zip(cells, donors, strict=True) if donor == name]
        rest = [cell for cell, donor in zip(cells, donors, strict=True) if donor != name]
        found.append(jaccard(_top(own), _top(rest)))
    return _part("donors", found, chance, len(rows)) | {"donors": len(names)}


def _pairs(circuits: Sequence[Cells]) -> list[float]:
    """The index of the first with each other one, and of the others with each other."""
    tops = [_top(cells) for cells in circuits]
    return [jaccard(a, b) for a, b in combinations(tops, 2)]


def _chance(top: Sequence[str], places: Mapping[str, float], rng: np.random.Generator) -> float:
    """Of two draws of genes that stand about where the circuit's do."""
    pool = dict(places)
    drawn = [rank_matched(pool, list(top), rng) for _ in range(DRAWS)]
    return float(np.mean([jaccard(a, b) for a, b in zip(drawn[::2], drawn[1::2], strict=True)]))


def _part(what: str, values: Sequence[float], chance: float, n: int) -> dict[str, Any]:
    index = {"mean": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}
    return {
        "what": what,
        "jaccard": index,
        "comparisons": len(values),
        "chance": chance,
        "n": n,
        "units": "cells",
        "why": "",
    }


def _not_asked(what: str, why: str) -> dict[str, Any]:
    return {
        "what": what,
        "jaccard": None,
        "comparisons": 0,
        "chance": None,
        "n": 0,
        "units": "cells",
        "why": why,
    }

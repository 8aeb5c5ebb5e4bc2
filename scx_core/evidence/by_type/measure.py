"""Measures all evidence for a cell type's circuit: made on one half of the cells, judged on the other.

The steps, for each type (rows by donor where there are donors):
 1. rankings of genes from the first half, the circuit's among them, and joint knock-outs in the second
    (rankings.py), then dose by dose;
 2. the consensus circuit of the same cells of the first half;
 3. single knock-outs of every gene in cells of the second: what each gene does, and how well circuit and
    gradient × input predicted it;
 4. sufficiency and necessity of the circuit's features in the second half, beside matched random ones;
 5. what varies with cells, donors, ties, templates and transcoder sets (stability.py, of genes);
 6. known markers, and what the model answers to the second half.
A type that was measured is saved at once, with all that decides the result in its file's name, and found
again; so is each step of a type that is being measured: a run that was stopped goes on there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scx_core.circuits import Circuit, ConsensusConfig, Tracer, make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.by_type.doses import doses_of
from scx_core.evidence.by_type.further import Answer, answers_of
from scx_core.evidence.by_type.markers import marker_evidence
from scx_core.evidence.by_type.parts import Parts
from scx_core.evidence.by_type.prediction import (
    by_cell,
    mean_where_present,
    predict_knockouts,
    where_present,
    with_rivals,
)
from scx_core.evidence.by_type.record import FORMAT, TypeEvidence, as_one_family
from scx_core.evidence.by_type.steadiness import steadiness_of
from scx_core.evidence.curves import CurvesConfig, curves_of
from scx_core.evidence.knockouts.gene_tables import KNOCKOUTS, measured_genes
from scx_core.evidence.knockouts.measured_effects import CellKnockouts, GeneKnockout, knock_out_all
from scx_core.evidence.ladder import EXACT, IN_FLOAT64
from scx_core.evidence.rankings.rankers import Halves, Rankers, gradient_times_input
from scx_core.evidence.rankings.rankings import RankingConfig, rank_genes_of, split_halves
from scx_core.language import load_language
from scx_core.runs import read_json, runs_root, write_json
from scx_core.runs.files import to_json_text
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, nested, silent
from scx_core.statistics.intervals import wilson
from scx_core.statistics.resampling import Sampling, one_group
from scx_core.transcoders import EMBEDDED_SETS, TranscoderSet, load_set

FOLDER = "evidence"  # inside the runs folder
DOSED = ("circuit", "gradient", "t-test")
N_PARTS = 7


@dataclass(frozen=True)
class TypesConfig:
    """How many types, and in how many cells each question is asked."""

    types: int = option(6, "So many of the largest types, where none are named", minimum=1)
    cells: int = option(
        24, "Cells of the first half that the circuit and its rivals are made from", minimum=2
    )
    measured: int = option(
        24, "Cells of the second half in which ten genes are taken out together", minimum=2
    )
    knocked: int = option(10, "Of them, those in which every gene is knocked out alone", minimum=2)
    varied: int = option(8, "Cells traced again with other ties, templates and transcoder sets", minimum=2)
    least: int = option(20, "Leave out types with fewer cells", minimum=4)
    genes: int = option(10, "Strongest genes of each ranking that are taken out together", minimum=1)
    draws: int = option(8, "Draws of random genes and of random circuits", minimum=2)
    seed: int = option(0, "Seed of all that is drawn", minimum=0)


TYPES = TypesConfig()


class EvidenceOfTypes(NamedTuple):
    """The records of several types as one family of tests; `left_out`: types with too few cells."""

    types: tuple[TypeEvidence, ...]
    left_out: dict[str, int]
    provenance: dict[str, Any]

    def of(self, label: str) -> TypeEvidence:
        """The record of a type. Raises KeyError."""
        return {one.label: one for one in self.types}[label]

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        return {
            "types": [one.to_json() for one in self.types],
            "left_out": self.left_out,
            "provenance": self.provenance,
        }


def evidence_of_types(
    tracer: Tracer,
    labels: Sequence[str] | None = None,
    cfg: TypesConfig = TYPES,
    *,
    others: Sequence[TranscoderSet] | None = None,
    root: Path | None = None,
    again: bool = False,
    also: Sequence[Path | str] = (),
    kept: bool = True,
    progress: Progress = silent,
) -> EvidenceOfTypes:
    """The evidence of some types (default: the `cfg.types` largest), measured or found where it was saved.

    `others`: further transcoder sets of the model, for the question of seeds (default: the other embedded set
    beside the embedded one); `root`: the runs folder; `again`: measure even what is saved; `also`: answers of
    other questions as files, and `kept` those in the runs folder (`further.answers_of`). Raises ScxError for
    an unknown type, one with too few cells, a saved record that is damaged, and a file that does not belong.
    """
    _, _, left_out = split_halves(tracer.table, _ranking(cfg))
    wanted = list(labels or largest(tracer, cfg))
    others = siblings(tracer) if others is None else others
    found = []
    for done, label in enumerate(wanted):
        tell = nested(progress, done, len(wanted))
        saved = None if again else saved_evidence(tracer, label, cfg, others, root)
        more: dict[str, Any] = {"others": others, "root": root, "again": again, "progress": tell}
        found.append(saved or measure_type(tracer, label, cfg, **more))
    progress(len(wanted), len(wanted), "")
    found = [with_further(one, answers_of(tracer, one.label, also, root, kept)) for one in found]
    for path in also:
        if not any(held["source"] == Path(path).name for one in found for held in one.further):
            raise ScxError(
                f"{Path(path).name} says nothing of {', '.join(wanted)[:120]}.",
                "Give one that does, or none.",
            )
    about = tracer.about({"types": to_dict(cfg)}, seed=cfg.seed)
    return EvidenceOfTypes(tuple(as_one_family(found)), left_out, about)


def with_further(found: TypeEvidence, answers: Sequence[Answer]) -> TypeEvidence:
    """The record with these answers of other questions, and no others."""
    return found._replace(further=[one.to_json() for one in answers])


def largest(tracer: Tracer, cfg: TypesConfig = TYPES) -> list[str]:
    """The largest types with enough cells that the model has an answer for."""
    first, _, _ = split_halves(tracer.table, _ranking(cfg))
    sizes = {label: int((tracer.table.labels == label).sum()) for label in first}
    known = []
    for label in sorted(sizes, key=lambda name: (-sizes[name], name)):
        try:
            tracer.answer_for(label)
        except ScxError:
            continue
        known.append(label)
    return known[: cfg.types]


def siblings(tracer: Tracer) -> list[TranscoderSet]:
    """The other embedded set of the model where the one in use is embedded."""
    here = {name: folder for name, folder in EMBEDDED_SETS.items() if name.startswith("embedded")}
    used = [name for name, folder in here.items() if tracer.transcoders.folder == folder]
    return [load_set(name, tracer.lm.device, tracer.lm.dtype) for name in here if used and name not in used]


def evidence_file(
    tracer: Tracer, label: str, cfg: TypesConfig, others: Sequence[TranscoderSet], root: Path | None = None
) -> Path:
    """Where a type's record lies; its name holds all that decides the content."""
    parts = {
        "format": FORMAT,
        "fingerprints": [tracer.lm.fingerprint, tracer.transcoders.fingerprint, tracer.table.fingerprint],
        "others": [one.fingerprint for one in others],
        "choices": str(getattr(tracer.table, "choices", "")),
        "answers": [str(tracer.table.answer_of), tracer.labels],
        "sentences": to_dict(tracer.lm.sentence_config),
        "config": to_dict(cfg) | {"types": None},
        "label": label,
    }
    mark = hashlib.sha256(to_json_text(parts).encode("utf-8", "replace")).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9+-]+", "-", label).strip("-")[:40] or "type"
    return (root or runs_root()) / FOLDER / f"{name}-{mark}.json"


def saved_evidence(
    tracer: Tracer,
    label: str,
    cfg: TypesConfig = TYPES,
    others: Sequence[TranscoderSet] | None = None,
    root: Path | None = None,
) -> TypeEvidence | None:
    """The record of a type if it was measured before. Raises ScxError when the file is damaged."""
    path = evidence_file(tracer, label, cfg, siblings(tracer) if others is None else others, root)
    return TypeEvidence.from_json(read_json(path), str(path)) if path.exists() else None


def measure_type(
    tracer: Tracer,
    label: str,
    cfg: TypesConfig = TYPES,
    *,
    others: Sequence[TranscoderSet] | None = None,
    root: Path | None = None,
    again: bool = False,
    progress: Progress = silent,
) -> TypeEvidence:
    """Measure one type and save its record (`root`: the runs folder); what an earlier call that was stopped
    has measured is not measured again, unless `again` is said. Raises ScxError as `evidence_of_types` does.
    """
    others = siblings(tracer) if others is None else others
    kept = tracer.transcoders.fingerprint  # a set that was never saved has no identity
    path = evidence_file(tracer, label, cfg, others, root) if kept else None
    part = Parts(label, N_PARTS, progress, path and path.with_suffix(".parts"))
    if again:
        part.forget()
    ranking = _ranking(cfg)
    ranked = part(
        "rankings", lambda tell: rank_genes_of(tracer, [label], ranking, tell).to_json()["types"][0]
    )
    first, second, _ = split_halves(tracer.table, ranking)
    rankers = Rankers(tracer, Halves(first), cfg.cells, cfg.seed)
    rows, unseen, answer = rankers.traced_rows(label), second[label][: cfg.measured], ranked["answer"]
    plan, places, few = tracer.plan(answer), rankers.places(label), unseen[: cfg.knocked]
    circuit = part(
        "circuit", lambda tell: _circuit(tracer, label, answer, rows, cfg, tell), Circuit.to_json, _as_circuit
    )
    doses = part("doses", lambda _: _doses(tracer, answer, unseen, ranked, places, cfg))
    knocked = part(
        "knock-outs", lambda tell: knock_out_all(tracer, few, plan, progress=tell), _knocked_json, _knocked
    )
    gradient = part("gradient", lambda _: gradient_times_input(tracer.lm, plan, tracer.encode(rows)))
    both = where_present(circuit), mean_where_present(gradient)
    sampling = one_group(len(few), cfg.seed, tracer.donors(few))
    circuit = _with_knockouts(circuit, knocked, few, sampling)
    curves, why = part("curves", lambda tell: _curves(tracer, label, circuit, unseen, cfg, tell))
    steady = part(
        "stability",
        lambda tell: steadiness_of(tracer, label, answer, rows, others, cfg.varied, cfg.seed, tell),
    )
    compared = by_cell(*both, knocked, rankers.differential(label))
    predicted = predict_knockouts(*both, knocked, sampling, cfg.seed).to_json()
    found = TypeEvidence(
        label=label,
        answer=answer,
        circuit=circuit,
        rankings=ranked,
        prediction=with_rivals(predicted, compared, sampling, cfg.seed),
        knockouts=compared,
        doses=doses,
        curves=curves,
        steadiness=steady,
        markers=marker_evidence(label, ranked, places, cfg.seed),
        answers=_answers(tracer, unseen, answer),
        further=[],
        unmeasured={} if curves else {"curves": why},
        seconds=part.seconds,
        provenance=tracer.about({"types": to_dict(cfg)}, seed=cfg.seed, cell_type=label)
        | tracer.training_cells(unseen),
    )
    found = as_one_family([found])[0]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found.to_json())
        part.forget()
    return found


def _as_circuit(data: Any) -> Circuit:
    return Circuit.from_json(data, "the part")


def _knocked_json(found: Sequence[CellKnockouts]) -> list[list[Any]]:
    return [[one.row, one.target, one.log_odds, [list(gene) for gene in one.genes]] for one in found]


def _knocked(data: Any) -> list[CellKnockouts]:
    return [
        CellKnockouts(row, target, log_odds, tuple(GeneKnockout(*gene) for gene in genes))
        for row, target, log_odds, genes in data
    ]


def _ranking(cfg: TypesConfig) -> RankingConfig:
    return RankingConfig(cfg.genes, cfg.cells, cfg.measured, cfg.least, cfg.draws, cfg.seed)


def _doses(
    tracer: Tracer,
    answer: str,
    unseen: np.ndarray,
    ranked: dict[str, Any],
    places: dict[str, float],
    cfg: TypesConfig,
) -> list[dict[str, Any]]:
    """Joint knock-outs of ever more genes of the rankings that are shown dose by dose."""
    tops = {one["name"]: one["genes"] for one in ranked["rankings"] if one["name"] in DOSED}
    return [one.to_json() for one in doses_of(tracer, answer, unseen, tops, places, seed=cfg.seed)]


def _with_knockouts(
    circuit: Circuit, knocked: Sequence[CellKnockouts], rows: np.ndarray, sampling: Sampling
) -> Circuit:
    """The circuit whose genes carry the knock-outs that were measured in these unseen cells."""
    about = {KNOCKOUTS: {"ways": ["text", "gap"], "cells": [int(row) for row in rows], "unseen": True}}
    genes = tuple(measured_genes(circuit.genes, knocked, sampling))
    return circuit._replace(genes=genes, provenance=circuit.provenance | about)


def _circuit(
    tracer: Tracer,
    label: str,
    answer: str,
    rows: np.ndarray,
    cfg: TypesConfig,
    progress: Progress = silent,
) -> Circuit:
    """The consensus of these very cells. Where float32 misses the limit of an exact account, its accounting
    says what float64 gives for the same cells."""
    settings = ConsensusConfig(cells=len(rows), seed=cfg.seed)
    plan = tracer.plan(answer)
    merged = tracer.merged(rows, plan, cfg=settings, progress=progress, label=label)
    circuit = tracer.combined(label, rows, plan, merged, cfg=settings)
    if circuit.accounting["max_relative_error"] <= EXACT:
        return circuit
    exact = _in_float64(tracer)
    error = max(one.max_relative_error for one in exact.merged(rows, exact.plan(answer), cfg=settings))
    return circuit._replace(accounting=circuit.accounting | {IN_FLOAT64: error})


def _in_float64(tracer: Tracer) -> Tracer:
    wanted = tracer.lm.wanted
    prompt = wanted.prompt if wanted else None
    lm = load_language(tracer.lm.source, str(tracer.lm.device), "float64", prompt)
    lm = replace(lm, wanted=wanted, asked=tracer.lm.asked)
    return make_tracer(lm, tracer.transcoders.to(dtype=lm.dtype), tracer.table)


def _curves(
    tracer: Tracer,
    label: str,
    circuit: Circuit,
    unseen: np.ndarray,
    cfg: TypesConfig,
    progress: Progress = silent,
) -> tuple[dict[str, Any] | None, str]:
    """Sufficiency and necessity in the unseen cells, or why there are none."""
    settings = CurvesConfig(measured=12, reference_cells=24, draws=cfg.draws, orders=0, seed=cfg.seed)
    rows = np.sort(unseen[: settings.measured]).tolist()
    try:
        asked: dict[str, Any] = {"circuit": circuit, "answer": circuit.target.answer, "cfg": settings}
        return curves_of(tracer, label, rows, **asked, progress=progress).to_json(), ""
    except ScxError as error:  # no feature in the circuit, or features that make no difference
        return None, error.problem


def _answers(tracer: Tracer, rows: np.ndarray, answer: str) -> dict[str, Any]:
    """What the model says of these cells, most frequent first, and how often this answer (Wilson's
    interval)."""
    given = tracer.predict(rows)
    counts = {
        name: given.count(name) for name in sorted(set(given), key=lambda one: (-given.count(one), one))
    }
    k, n = given.count(answer), len(given)
    low, high = wilson(k, n)
    return {"n": n, "given": k, "share": k / n, "low": low, "high": high, "counts": counts}

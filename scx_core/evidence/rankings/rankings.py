"""Who else could have named these genes: rankings of a cell type's genes by measured joint knock-outs (§9);
and their tables, in plain text or Markdown, from the JSON of `scx rankings`.

The steps, for each type:
 1. its cells are split in two halves (by donor where there are donors);
 2. on the first half every ranking is made (rankers.py), and random genes of the circuit's ranks are drawn;
 3. on cells of the second, the ten strongest genes of each ranking are taken out of the sentence together and
    the real model answers: drop = log-odds of the type's label before less after, over whole answers;
 4. drops and their paired differences from the circuit's get intervals over cells, or donors; the
    differences of all types are tested together (sign flips, Benjamini-Hochberg).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scx_core.cells import CellTable
from scx_core.cells.differential import CELLS_A_TYPE, rows_by_type
from scx_core.circuits import Tracer
from scx_core.circuits.schema import Misfit, check_figures, read_record
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.measured_effects import joint_drops
from scx_core.evidence.rankings.marker_scores import (
    Agreement,
    MarkerScores,
    agreement,
    marker_lists,
    marker_scores,
    markers_of,
)
from scx_core.evidence.rankings.rankers import WORDS, Halves, Rankers, rank_matched
from scx_core.runs.cached_results import cached
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.hypothesis_tests import p_values, q_values
from scx_core.statistics.resampling import MeanInterval, interval_words, mean_interval, one_group
from scx_core.validation.result import plain as plain_values

CERTAIN = 0.05  # q below which a difference counts


@dataclass(frozen=True)
class RankingConfig:
    """From how many cells rankings are made, and on how many they are measured."""

    genes: int = option(10, "Strongest genes of each ranking that are taken out together", minimum=1)
    cells: int = option(30, "Cells of the first half that the model's rankings look at", minimum=2)
    measured: int = option(30, "Cells of the second half in which the genes are taken out", minimum=2)
    least: int = option(20, "Leave out types with fewer cells", minimum=4)
    draws: int = option(10, "Draws of random genes of the circuit's ranks", minimum=1)
    seed: int = option(0, "Seed of halves, draws and bootstraps", minimum=0)


RANKING = RankingConfig()


class Ranked(NamedTuple):
    """One ranking of one type. `drop` in nats over the measured cells; `present`: how many of its genes a
    measured cell's sentence holds, mean; `markers`: which are known markers of the type (None: no list).

    `scores`: precision and AUROC against them (None: no list); `agreement` with the circuit.
    `ahead`: drop of the circuit less this one's, cell by cell; `p`, `q` of it (None for the circuit itself).
    """

    name: str
    words: str
    genes: tuple[str, ...]
    markers: tuple[str, ...] | None
    present: float
    drop: MeanInterval
    ahead: MeanInterval | None = None
    p: float | None = None
    q: float | None = None
    scores: MarkerScores | None = None
    agreement: Agreement | None = None

    @property
    def verdict(self) -> str:
        """Who takes more of the answer away: "circuit", "rival", or "same" where no difference is certain."""
        if self.ahead is None or self.q is None or self.q >= CERTAIN:
            return "same"
        return "circuit" if self.ahead.mean > 0 else "rival"


class TypeRankings(NamedTuple):
    """All rankings of a type: from `n_ranked` cells (`n_traced` of them for the model's), measured in `n`
    others; `before`: the log-odds of the label there, `called`: share of them that the model calls so.
    `candidates`: genes that rankings are held to, `known` of them markers (None: no list)."""

    label: str
    answer: str
    n_ranked: int
    n_traced: int
    n: int
    units: str
    n_units: int
    before: MeanInterval
    called: float
    listed: int | None
    rankings: tuple[Ranked, ...]
    candidates: int = 0
    known: int | None = None

    def of(self, name: str) -> Ranked:
        """The ranking of this name. Raises KeyError."""
        return {one.name: one for one in self.rankings}[name]


class Rankings(NamedTuple):
    """The table of all types; `left_out`: types with too few cells, and their numbers of cells."""

    types: tuple[TypeRankings, ...]
    left_out: dict[str, int]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        return {
            "types": [_type_json(one) for one in self.types],
            "left_out": self.left_out,
            "provenance": self.provenance,
        }


def rank_genes_of(
    tracer: Tracer,
    labels: Sequence[str] | None = None,
    cfg: RankingConfig = RANKING,
    progress: Progress = silent,
    markers: str | Path | None = None,
    kept: bool = False,
    runs: Path | None = None,
    again: bool = False,
) -> Rankings:
    """Rank and measure the genes of some types (default: all with `cfg.least` cells).

    `markers`: a marker table or GMT file in the place of the lists that are known here. `kept`: each type is
    kept in the runs folder (`runs`) as soon as it is measured, and found there (not with `again`).
    Raises ScxError for an unknown type, one with too few cells, or cells of fewer than two types.
    """
    first, second, left_out = split_halves(tracer.table, cfg)
    wanted = _wanted(tracer.table, labels, first, left_out)
    lists = None if markers is None else marker_lists(wanted, markers, tracer.table.organism)
    rankers = Rankers(tracer, Halves(first), cfg.cells, cfg.seed)
    found = []
    for done, label in enumerate(wanted):
        progress(done, len(wanted), label)
        rows, known = second[label][: cfg.measured], markers_of(label, lists)

        def make(
            label: str = label, rows: np.ndarray = rows, known: frozenset[str] | None = known
        ) -> TypeRankings:
            return _type_rankings(tracer, rankers, label, rows, cfg, known)

        keep = kept and bool(tracer.transcoders.fingerprint)  # a set that was never saved has no identity
        found.append(_kept_type(tracer, label, cfg, known, make, runs, again) if keep else make())
    progress(len(wanted), len(wanted), "")
    about = tracer.about({"rankings": to_dict(cfg)}, seed=cfg.seed)
    about["markers"] = "known here" if markers is None else Path(markers).name
    return Rankings(tuple(_with_q(found)), left_out, about)


def _kept_type(
    tracer: Tracer,
    label: str,
    cfg: RankingConfig,
    known: frozenset[str] | None,
    make: Callable[[], TypeRankings],
    runs: Path | None,
    again: bool,
) -> TypeRankings:
    """A type's rankings, from the runs folder where the same was asked before."""
    asked = {"rankings": to_dict(cfg), "type": label, "known": None if known is None else sorted(known)}
    told = {"choices": str(getattr(tracer.table, "choices", "")), "labels": tracer.labels}
    about = tracer.about(asked | told)
    del about["validation"]  # what is known of the set decides about no number

    def asked_for(anew: bool) -> TypeRankings:
        record = cached("rankings-of-type", about, lambda: plain_values(make()), runs=runs, again=anew)
        return read_rankings_record(record)

    try:
        return asked_for(again)
    except Misfit:  # the file was damaged, as one that cannot be read at all
        return asked_for(True)


def read_rankings_record(record: Any) -> TypeRankings:
    """The rankings of a type from their record. Raises Misfit that names the place."""
    found = read_record(TypeRankings, record)
    check_figures(record)
    if sorted(one.name for one in found.rankings) != sorted(SHORT):
        raise Misfit(f"is not of {', '.join(SHORT)}, each once", "rankings")
    return found


def split_halves(
    table: CellTable, cfg: RankingConfig = RANKING
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, int]]:
    """Rows of every type in two halves without overlap, and the types that are left out with their sizes.

    With donors whole donors go to a half, the larger ones first to the smaller half. The second half comes in
    a random order, so that its first cells are a draw.
    """
    first, second, left_out = {}, {}, {}
    for label, rows in rows_by_type(table, CELLS_A_TYPE, cfg.seed).items():
        if len(rows) < cfg.least:
            left_out[label] = len(rows)
            continue
        rows = np.random.default_rng(cfg.seed).permutation(rows)
        one, other = _by_donor(table, rows) or (rows[: len(rows) // 2], rows[len(rows) // 2 :])
        first[label], second[label] = np.sort(one), other
    return first, second, left_out


def _by_donor(table: CellTable, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Two halves that share no donor; None without two donors."""
    if table.donors is None:
        return None
    names, sizes = np.unique(table.donors[rows], return_counts=True)
    if len(names) < 2:
        return None
    held: tuple[list[str], list[str]] = ([], [])
    cells = [0, 0]
    for at in np.argsort(-sizes, kind="stable"):
        side = int(cells[1] < cells[0])
        held[side].append(names[at])
        cells[side] += int(sizes[at])
    own = np.isin(table.donors[rows], held[0])
    return rows[own], rows[~own]


def _wanted(
    table: CellTable, labels: Sequence[str] | None, first: dict[str, np.ndarray], left_out: dict[str, int]
) -> list[str]:
    for label in labels or ():
        if label in left_out:
            raise ScxError(
                f"{label!r} has {left_out[label]} cells: too few for two halves.",
                "Lower `least`, or take another.",
            )
        if label not in first:
            raise ScxError(
                f"{table.name} holds no cell of the type {label!r}.", f"It holds: {', '.join(table.types)}."
            )
    if len(first) < 2:
        raise ScxError(f"{table.name} has fewer than two types with enough cells.", "Lower `least`.")
    return list(labels or first)


def _type_rankings(
    tracer: Tracer,
    rankers: Rankers,
    label: str,
    rows: np.ndarray,
    cfg: RankingConfig,
    known: frozenset[str] | None,
) -> TypeRankings:
    answer = tracer.answer_for(label)
    sampling = one_group(len(rows), cfg.seed, tracer.donors(rows))
    whole = rankers.all(label, answer)
    tops = {name: genes[: cfg.genes] for name, genes in whole.items()}
    rng, places = np.random.default_rng(cfg.seed), rankers.places(label)
    candidates = sorted(places)
    random = [rank_matched(places, tops["circuit"], rng) for _ in range(cfg.draws)]
    taken = joint_drops(tracer, rows, answer, [*tops.values(), *random])
    n = len(tops)
    drop = dict(zip(tops, taken.drop_SC, strict=False)) | {"random": taken.drop_SC[n:].mean(0)}
    held = dict(zip(tops, taken.held_SC, strict=False)) | {"random": taken.held_SC[n:].mean(0)}
    ranked = []
    for name, drop_C in drop.items():
        genes = tuple(tops.get(name, ()))
        markers = tuple(gene for gene in genes if known and gene in known)
        listed = known is not None and name != "random"
        mean = mean_interval(drop_C, sampling)
        one = Ranked(name, WORDS[name], genes, markers if listed else None, float(held[name].mean()), mean)
        if name in whole:
            scores = marker_scores(whole[name], candidates, known) if known else None
            with_circuit = agreement(whole[name], whole["circuit"], candidates)
            one = one._replace(scores=scores, agreement=with_circuit)
        if name != "circuit":
            ahead_C = drop["circuit"] - drop_C
            ahead = mean_interval(ahead_C, sampling)
            one = one._replace(ahead=ahead, p=float(p_values(sampling, ahead_C[:, None], cfg.seed)[0]))
        ranked.append(one)
    answers = tracer.predict(rows)
    return TypeRankings(
        label,
        answer,
        len(rankers.halves.rows[label]),
        len(rankers.traced_rows(label)),
        len(rows),
        sampling.kind,
        sampling.units_G[0],
        mean_interval(taken.before_C, sampling),
        answers.count(answer) / len(answers),
        len(known) if known else None,
        tuple(ranked),
        len(candidates),
        len(known & set(candidates)) if known else None,
    )


def _with_q(types: Sequence[TypeRankings]) -> list[TypeRankings]:
    """q-values over every comparison that was made."""
    p = [one.p for held in types for one in held.rankings if one.p is not None]
    q = iter(q_values(np.array(p)).tolist())
    return [
        held._replace(
            rankings=tuple(one if one.p is None else one._replace(q=next(q)) for one in held.rankings)
        )
        for held in types
    ]


def _type_json(found: TypeRankings) -> dict[str, Any]:
    rows = [
        one._asdict()
        | {
            "drop": one.drop._asdict(),
            "ahead": one.ahead._asdict() if one.ahead else None,
            "scores": plain_values(one.scores),
            "agreement": plain_values(one.agreement),
            "verdict": one.verdict,
            "n_markers": None if one.markers is None else len(one.markers),
        }
        for one in found.rankings
    ]
    return found._asdict() | {"before": found.before._asdict(), "rankings": rows}


SHORT = {
    "circuit": "circuit",
    "random": "random, rank-matched",
    "linear": "linear maps",
    "attention": "attention",
    "rollout": "rollout",
    "gradient": "gradient × input",
    "estimated": "estimated knock-out",
    "t-test": "DE, t-test",
    "wilcoxon": "DE, Wilcoxon",
    "expression": "most expressed",
    "logistic": "logistic × expression",
    "pca": "PCA loadings",
}
MARKED = (
    *("circuit", "t-test", "wilcoxon", "expression", "gradient", "estimated", "linear", "attention"),
    *("rollout", "logistic", "pca"),
)
TableRows = tuple[tuple[str, ...], list[tuple[str, ...]]]
SIGNS = {"circuit": " −", "rival": " +", "same": ""}


def span(found: Mapping[str, float], digits: int = 2) -> str:
    """ "2.90 [1.99, 3.74]"."""
    mean, low, high = (f"{found[key]:.{digits}f}".replace("-", "−") for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def drop_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: drops of every ranking by type, with " +" where a rival is certainly ahead of the
    circuit and " −" where it is certainly behind."""
    header = ("type", "n", "log-odds before", *SHORT.values())
    rows = []
    for held in result["types"]:
        by = {one["name"]: one for one in held["rankings"]}
        cells = [span(by[name]["drop"]) + SIGNS[by[name]["verdict"]] for name in SHORT]
        rows.append((held["label"], str(held["n"]), span(held["before"]), *cells))
    return header, rows


def ahead_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: the circuit's drop less each rival's, cell by cell."""
    rivals = [name for name in SHORT if name != "circuit"]
    rows = []
    for held in result["types"]:
        by = {one["name"]: one for one in held["rankings"]}
        rows.append((held["label"], *(span(by[name]["ahead"]) for name in rivals)))
    return ("type", *(SHORT[name] for name in rivals)), rows


def marker_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows: known markers among the strongest genes of every ranking."""
    rows = []
    for held in result["types"]:
        by = {one["name"]: one for one in held["rankings"]}
        counts = [_count(by[name]["n_markers"]) for name in MARKED]
        rows.append((held["label"], str(held["n_ranked"]), _count(held["listed"]), *counts))
    return ("type", "cells", "listed", *(SHORT[name] for name in MARKED)), rows


def precision_rows(result: Mapping[str, Any]) -> TableRows:
    """Header and rows: precision at 5, 10 and 20 of every ranking, and by chance."""
    rows = []
    for held in result["types"]:
        by = {one["name"]: one["scores"] for one in held["rankings"]}
        cells = [
            "–" if by[name] is None else " / ".join(f"{x:.2f}" for x in by[name]["precision"].values())
            for name in MARKED
        ]
        chance = "–" if held["known"] is None else f"{held['known'] / max(1, held['candidates']):.2f}"
        rows.append((held["label"], f"{_count(held['known'])} of {held['candidates']}", chance, *cells))
    return ("type", "markers", "by chance", *(SHORT[name] for name in MARKED)), rows


def auroc_rows(result: Mapping[str, Any]) -> TableRows:
    """Header and rows: AUROC of every ranking against the markers."""
    rows = []
    for held in result["types"]:
        by = {one["name"]: one["scores"] for one in held["rankings"]}
        cells = ["–" if not by[name] or not by[name]["auroc"] else span(by[name]["auroc"]) for name in MARKED]
        rows.append((held["label"], _count(held["known"]), *cells))
    return ("type", "markers", *(SHORT[name] for name in MARKED)), rows


def agreement_rows(result: Mapping[str, Any]) -> TableRows:
    """Header and rows: overlap of the first ten with the circuit's, and rank correlation with it."""
    rows, rivals = [], [name for name in MARKED if name != "circuit"]
    for held in result["types"]:
        by = {one["name"]: one["agreement"] for one in held["rankings"]}
        pairs = [f"{by[name]['overlap']:.1f} / {by[name]['spearman']:.2f}" for name in rivals]
        rows.append((held["label"], str(held["candidates"]), *(pair.replace("-", "−") for pair in pairs)))
    return ("type", "genes", *(SHORT[name] for name in rivals)), rows


def marker_line(result: Mapping[str, Any], rival: str) -> str | None:
    """ "DE, t-test: AUROC 0.81 against the circuit's 0.74 (means of 7 types), certainly higher in 2, …"; None
    where no type has markers."""
    pairs = []
    for held in result["types"]:
        by = {one["name"]: one["scores"] for one in held["rankings"]}
        if by[rival] and by[rival]["auroc"]:
            pairs.append((by["circuit"]["auroc"], by[rival]["auroc"]))
    if not pairs:
        return None
    higher = sum(one["low"] > own["high"] for own, one in pairs)
    lower = sum(one["high"] < own["low"] for own, one in pairs)
    mean_own, mean_one = (float(np.mean([pair[k]["mean"] for pair in pairs])) for k in (0, 1))
    return (
        f"{WORDS[rival]}: AUROC {mean_one:.2f} against the circuit's {mean_own:.2f} (means of {len(pairs)} "
        f"types); intervals apart in {higher + lower}: above it in {higher}, below in {lower}"
    )


def _count(n: int | None) -> str:
    return "–" if n is None else str(n)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar in a name does not end its cell."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def verdict_line(result: Mapping[str, Any], rival: str) -> str:
    """ "attention: the circuit's genes take away more in 5 of 7 types; less: NK; …"."""
    verdicts = {
        held["label"]: one["verdict"]
        for held in result["types"]
        for one in held["rankings"]
        if one["name"] == rival
    }
    ahead = sum(word == "circuit" for word in verdicts.values())
    parts = [f"{SHORT[rival]}: the circuit's genes take away more in {ahead} of {len(verdicts)} types"]
    for text, key in (("less", "rival"), ("no certain difference", "same")):
        if found := [label for label, word in verdicts.items() if word == key]:
            parts.append(f"{text}: {', '.join(found)}")
    return "; ".join(parts)


def explanation(result: Mapping[str, Any]) -> str:
    """What the tables hold, in words."""
    n_genes = result["provenance"]["config"]["rankings"]["genes"]
    kinds = sorted({held["units"] for held in result["types"]})
    return (
        "Drop in the log-odds of the type's label (whole answers, nats) in the real model when the "
        f"{n_genes} strongest genes of a ranking are taken out of the sentence together and the next ones "
        "move up. "
        "Rankings are made on one half of each type's cells and measured in n cells of the other half; "
        f"[{'; '.join(f'{interval_words(kind)} over {kind}' for kind in kinds)}]. "
        "+ and −: certainly more or less than the circuit (paired sign flips, q < 0.05 over the whole table)."
    )


def ranking_tables(result: Mapping[str, Any], as_markdown: bool = False) -> str:
    """Everything that `scx rankings` says."""
    table = markdown if as_markdown else plain
    n_genes = result["provenance"]["config"]["rankings"]["genes"]
    left = ", ".join(f"{name} ({n} cells)" for name, n in result["left_out"].items())
    lines = [marker_line(result, name) for name in MARKED if name != "circuit"]
    marker_lines = [line for line in lines if line is not None] or ["No type has a list of markers."]
    parts = [
        explanation(result),
        table(*drop_rows(result)),
        "The circuit's drop less the rival's, cell by cell:",
        table(*ahead_rows(result)),
        "\n".join(
            ("- " if as_markdown else "") + verdict_line(result, name) for name in SHORT if name != "circuit"
        ),
        f"Known markers among the {n_genes} strongest genes of each ranking:",
        table(*marker_rows(result)),
        "Precision at 5 / 10 / 20 against known markers, over the genes that the ranked sentences hold; by "
        "chance it is the share of markers among them:",
        table(*precision_rows(result)),
        "AUROC against known markers over the same genes [95%, DeLong, over genes]; by chance 0.5:",
        table(*auroc_rows(result)),
        "\n".join(("- " if as_markdown else "") + line for line in marker_lines),
        "Agreement with the circuit: share of its ten strongest genes that are among the ranking's ten, and "
        "rank correlation over the same genes:",
        table(*agreement_rows(result)),
    ]
    return "\n\n".join([*parts, f"Left out, too few cells for two halves: {left}."] if left else parts)


def plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of plain text: the first column to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )

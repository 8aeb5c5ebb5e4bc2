"""The part of a report that looks beyond the model: markers, another study, a screen, a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.figures.drawing.text import plain
from scx_core.figures.report.parts import Section, Table, prefixed, three

NOT_ASKED = {
    "transfer": "Not tested: no other study was asked with this model (`scx evidence transfer`).",
    "perturbations": "Not tested: this model was held against no Perturb-seq or CRISPRi file "
    "(`scx evidence perturbations`).",
    "network": "Not tested: this circuit was held against no curated network (`scx evidence network`).",
}


def biology_sections(found: TypeEvidence) -> list[Section]:
    """What is known or was measured outside of the model; what was not asked says with what it can be."""
    answers = {
        "Another study": ("transfer", _study),
        "Measured perturbations": ("perturbations", _screen),
        "Curated network": ("network", _network),
    }
    sections = [Section("Curated markers", 2, (_markers(found.markers),))]
    for title, (question, table) in answers.items():
        held = found.found(question)
        parts = tuple(table(one, k) for k, one in enumerate(held)) or (NOT_ASKED[question],)
        sections.append(Section(title, 2, parts))
    return sections


def _markers(held: Mapping[str, Any] | None) -> str | Table:
    if held is None:
        return "No list of curated markers is known for this type."
    names = (
        ("circuit", "circuit"),
        ("random", "genes of the circuit's ranks (mean of draws)"),
        ("chance", "by chance, of all genes in the type's sentences"),
        ("differential", "differential expression (t-test)"),
        ("gradient", "gradient × input"),
        ("expressed", "most expressed"),
    )
    rows = tuple({"genes": words, "markers": held[key], "of": held["genes"]} for key, words in names)
    low, high = held["interval"]
    note = (
        f"{held['listed']} markers are among the {held['candidates']} genes of the type's sentences. "
        f"Circuit: "
        f"share {held['circuit'] / held['genes']:.2f} [{low:.2f}, {high:.2f}] (Wilson), hypergeometric p "
        f"{held['p']:.2g}, q {held['q']:.2g}. Lists: {plain('; '.join(held['citations']), 400)}."
    )
    columns = (("ranking", ("genes",)), ("markers", ("markers",)), ("of", ("of",)))
    title = f"Known markers among the {held['genes']} strongest genes"
    return Table("markers", title, note, columns, rows)


def _study(one: Mapping[str, Any], k: int) -> Table:
    counts: list[tuple[str, Any]] = [
        ("circuit", one["shared"]),
        ("by chance, genes of the same level", one["expected"]),
    ]
    if one["differential"] is not None:
        counts.append(("differential expression, without a model", one["differential"]))
    rows = tuple({"genes by": words, "shared": n, "of": one["top"]} for words, n in counts)
    note = (
        f"The {one['top']} strongest genes in {plain(one['first'], 60)} and in {plain(one['second'], 60)}, "
        f"{one['n']} cells or more each; p {one['p']:.2g} against permutations within bins of like places, "
        f"times {one['pairs']} pairs of studies. Shared: {plain(', '.join(one['common']), 300) or 'none'}."
    )
    columns = (("genes by", ("genes by",)), ("shared", ("shared",)), ("of", ("of",)))
    return Table(_name("another_study", k), "Strongest genes that two studies share", note, columns, rows)


def _screen(one: Mapping[str, Any], k: int) -> Table:
    rows = [{"by": "in-silico knock-out", **prefixed("rho", one["mean"])}]
    for rival in one["rivals"]:
        bare = {"mean": rival["mean"], "low": None, "high": None}
        rows.append({"by": rival["name"], **prefixed("rho", bare), **prefixed("ahead", rival["behind"])})
    note = (
        f"{plain(one['data'], 60)}: {one['targets']} targets. Mean over targets of the rank correlation with "
        f"the measured changes [95% over targets]; in-silico p {one['p']:.2g} against shuffled targets, "
        f"signs "
        f"right in {one['same']} of {one['signs']}. This is about the model and not about one type."
    )
    columns = (
        ("predicted by", ("by",)),
        ("rank correlation", three("rho")),
        ("in silico ahead by", three("ahead")),
    )
    title = "In-silico knock-outs beside a measured screen"
    return Table(_name("perturbations", k), title, note, columns, tuple(rows))


def _network(one: Mapping[str, Any], k: int) -> Table:
    keys = (
        "relation",
        "way",
        "pairs",
        "hits",
        "expected",
        "fold",
        "low",
        "high",
        "p",
        "graph_fold",
        "graph_p",
    )
    rows = tuple({key: row[key] for key in keys} for row in one["rows"])
    note = (
        f"{plain(one['says'], 160)}. Pairs of genes that one feature of a circuit joins, of all types "
        "together, pairs that are spelled alike left out; expected: over edges rewired with every gene's "
        "degree kept. "
    )
    if one["enough"]:
        note += f"The same number of pairs by co-expression: fold {one['coexpression'] or 0.0:.2f}."
    else:
        note += "So few hits are expected that nothing can be said."
    columns = (
        ("relation", ("relation",)),
        ("pairs by", ("way",)),
        ("pairs", ("pairs",)),
        ("hits", ("hits",)),
        ("expected", ("expected",)),
        ("fold [95% over factors]", ("fold", "low", "high")),
        ("p", ("p",)),
        ("fold, graph rewired", ("graph_fold",)),
        ("p", ("graph_p",)),
    )
    return Table(_name("network", k), "Joined pairs that are curated edges", note, columns, rows)


def _name(name: str, k: int) -> str:
    """Of its file; a second answer has a number."""
    return name if k == 0 else f"{name}_{k + 1}"

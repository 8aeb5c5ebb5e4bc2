"""What a report says, in sections of paragraphs, pictures and tables; no format in it.

What is true of the model and what is true of biology are two sections. Every number comes from the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.circuits.words.wording import circuit_sentences, statistics_sentences
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.evidence.rankings.rankings import SHORT
from scx_core.figures import captions
from scx_core.figures.drawing.layout import simplify
from scx_core.figures.drawing.text import plain
from scx_core.figures.picture import circuit_figure, unsaid_notes
from scx_core.figures.report import charts
from scx_core.figures.report.biology import biology_sections
from scx_core.figures.report.feature_answers import feature_edit_sections, redundancy_sections
from scx_core.figures.report.genes import GENES, genes_part
from scx_core.figures.report.parts import Document, Picture, Section, Table, cell, prefixed, three
from scx_core.figures.report.wording import LIMITS, METHODS, REFERENCES
from scx_core.figures.table import markers_of
from scx_core.validation import Validation, verdict


def document_of(found: TypeEvidence, validation: Validation | None = None) -> Document:
    """The report of a record."""
    circuit, ladder = found.drawn, found.ladder
    about_model = [
        *_circuit_section(found),
        *_knockout_sections(found),
        *_feature_sections(found),
        *feature_edit_sections(found.found("steer")),
        *redundancy_sections(found.found("redundancy")),
        _steady_section(found),
    ]
    sections = [
        Section("In short", 1, (_summary(found), _ladder_table(found))),
        Section("Warnings", 1, _warnings(found, validation)),
        Section("What is true of the model", 1, (MODEL_WORDS,)),
        *about_model,
        Section("What is true of biology", 1, (BIOLOGY_WORDS,)),
        *biology_sections(found),
        Section("Limits", 1, LIMITS),
        Section("Methods", 1, (*METHODS, _settings(found))),
        Section("References", 1, REFERENCES),
        Section("Provenance", 1, (_provenance_table(found),)),
    ]
    printed = [part for section in sections for part in section.parts if isinstance(part, Table)]
    return Document(
        f"Evidence for the circuit of {plain(found.label, 60)}",
        f"Answer {plain(found.answer, 60)}; {circuit.n_cells} cells made the circuit, other cells of the "
        f"type "
        f"judge it. The claim {ladder.words}.",
        tuple(sections),
        (*printed, *_tables_by_cell(found)),
        captions.provenance_line(found.provenance),
    )


MODEL_WORDS = (
    "Everything in this part is about one language model and its transcoders: what its answer rests on, how "
    "surely, and who else could have said so. A gene that the model uses need not do anything in the cell."
)
BIOLOGY_WORDS = (
    "Nothing above is a finding about cells. This part says how far the circuit's strongest genes agree with "
    "what is known or was measured outside of the model; agreement is no proof of a mechanism, and a marker "
    "may be named merely because it is high in the type."
)


def _summary(found: TypeEvidence) -> str:
    answers = found.answers
    return (
        f"The claim that this circuit explains the answer {plain(found.answer, 60)} {found.ladder.words}. "
        f"The "
        f"model gives this answer to {answers['given']} of {answers['n']} unseen cells of the type "
        f"({answers['low']:.0%} to {answers['high']:.0%}). A level counts only when all lower ones are "
        f"reached."
    )


def _ladder_table(found: TypeEvidence) -> Table:
    rows = tuple(
        {"level": level.number, "claim": level.claim, "status": level.status, "why": level.words}
        for level in found.ladder.levels
    )
    columns = (
        ("level", ("level",)),
        ("claim", ("claim",)),
        ("status", ("status",)),
        ("on what grounds", ("why",)),
    )
    return Table("ladder", "The ladder of claims", "", columns, rows)


def _warnings(found: TypeEvidence, validation: Validation | None) -> tuple[str, ...]:
    """What a reader must know before the figures: the stand-ins, the model's accuracy, open levels."""
    words = []
    if validation is None:
        words.append(
            "The transcoders were not validated on these cells: `scx validate` says whether to trust them."
        )
    else:
        words.append(f"Validation of the transcoders: {verdict(validation)}")
        words += [f"{caution.text} {caution.remedy}" for caution in validation.warnings]
    words += [found.training] if found.training else []
    answers = found.answers
    if answers["low"] < 0.5:
        others = ", ".join(
            f"{plain(name, 30)} {n}" for name, n in answers["counts"].items() if name != found.answer
        )
        words.append(
            f"The model gives this answer to only {answers['given']} of {answers['n']} unseen cells (and "
            f"else "
            f"{others or 'nothing'}): the circuit explains an answer that is often not given."
        )
    words += [
        f"Level {level.number} ({level.claim}): {level.status}. {level.words}."
        for level in found.ladder.levels
        if level.status == "not reached"
    ]
    words += [f"Not measured: {plain(part)}: {plain(why, 200)}" for part, why in found.unmeasured.items()]
    return tuple(words)


def _circuit_section(found: TypeEvidence) -> list[Section]:
    circuit = found.drawn
    drawing = simplify(circuit, markers=markers_of(circuit)[0] or frozenset())
    # Words stand once, below the picture at the size of text: in it they would make it too tall for a page.
    words = " ".join((drawing.caption, *drawing.explained, "; ".join(unsaid_notes(drawing)))).strip()
    bare = drawing._replace(caption="", explained=(), notes=(), provenance="")
    picture = Picture("circuit", words, lambda: circuit_figure(bare))
    note = (
        f"In {plain(circuit.target.unit, 20)}. Frozen attribution: mean over the {circuit.n_cells} cells of "
        f"the "
        f"circuit [95%], with q that it is 0. Lost without it: the real model's target before less after, "
        f"mean over all unseen cells, 0 where one lacks the gene [95%]; n hold it. The {GENES} with the "
        f"largest frozen attribution; the file has all."
    )
    told = [*circuit_sentences(circuit), *statistics_sentences(circuit)]
    return [
        Section("The circuit", 2, (*told, picture)),
        Section("Genes", 2, (genes_part(circuit, note),)),
    ]


def _knockout_sections(found: TypeEvidence) -> list[Section]:
    ranked, predicted = found.rankings, found.prediction
    rows = []
    for row in ranked["rankings"]:
        ahead = row["ahead"] or {"mean": None, "low": None, "high": None}
        rows.append(
            {
                "ranking": SHORT[row["name"]],
                **prefixed("drop", row["drop"]),
                **prefixed("ahead", ahead),
                "p": row["p"],
                "q": row["q"],
                "verdict": _VERDICTS[row["verdict"]] if row["ahead"] else "",
                "genes": ", ".join(map(plain, row["genes"])),
            }
        )
    columns = (
        ("genes ranked by", ("ranking",)),
        ("lost, nats", three("drop")),
        ("circuit ahead by", three("ahead")),
        ("p", ("p",)),
        ("q", ("q",)),
        ("verdict", ("verdict",)),
        ("genes taken out", ("genes",)),
    )
    n_genes = len(next(row["genes"] for row in ranked["rankings"] if row["name"] == "circuit"))
    note = (
        f"The {n_genes} strongest genes of each ranking are taken out of the sentence together; n = "
        f"{ranked['n']} "
        f"unseen cells, intervals over {ranked['units']}; p: paired sign flips, q: Benjamini-Hochberg over "
        f"the "
        "rivals of all types that were measured in the run. Log-odds before: "
        f"{cell(prefixed('x', ranked['before']), three('x'))}."
    )
    table = Table("joint_knockouts", "Joint knock-outs beside rivals", note, columns, tuple(rows))
    said = (
        f"What the answer's log-odds lose without each ranking's {n_genes} genes, mean and 95% interval over "
        f"{ranked['units']}, n = {ranked['n']} unseen cells. Every line but the circuit's (bold) is a rival."
    )
    chart = Picture("joint_knockouts", said, lambda: charts.drops_chart(ranked["rankings"], SHORT))
    doses = tuple(
        {key: row[key] for key in ("ranking", "size", "mean", "low", "high")} for row in found.doses
    )
    dose_table = Table(
        "doses",
        "Dose: with ever more genes",
        "Nats lost without the first genes of each ranking, mean [95%]. The same cells throughout.",
        (("ranking", ("ranking",)), ("genes", ("size",)), ("lost, nats", ("mean", "low", "high"))),
        doses,
    )
    words = (
        "Dose curve: circuit, gradient × input, differential expression (t-test), random genes of the "
        "circuit's "
        f"ranks. Bands: 95% over {ranked['units']}, n = {ranked['n']} unseen cells."
    )
    dose = Picture("doses", words, lambda: charts.dose_chart(found.doses, SHORT))
    return [
        Section("Joint knock-outs", 2, (chart, table)),
        Section("Dose", 2, (dose, dose_table)),
        Section("Prediction of single knock-outs", 2, (_prediction_table(predicted),)),
    ]


_VERDICTS = {
    "circuit": "less than the circuit",
    "rival": "more than the circuit",
    "same": "no certain difference",
}


def _prediction_table(predicted: Mapping[str, Any]) -> Table:
    rows = [
        {
            "by": words,
            **prefixed("rank", predicted[key]["spearman"]),
            **prefixed("sign", predicted[key]["sign"]),
        }
        for key, words in (("circuit", "circuit (frozen attribution)"), ("gradient", "gradient × input"))
    ]
    ahead = cell(prefixed("x", predicted["ahead"]), three("x"))
    note = (
        f"Within each of n = {predicted['n']} unseen cells, every gene is knocked out alone (a neutral gene "
        f"in its "
        "place) and held against the mean effect in the cells that the circuit was made from. Circuit less "
        f"gradient: {ahead}, p {predicted['p']:.2g}."
    )
    columns = (
        ("predicted by", ("by",)),
        ("rank correlation", three("rank")),
        (f"sign of the {predicted['strongest']} strongest", three("sign")),
    )
    return Table("prediction", "Does it predict knock-outs?", note, columns, tuple(rows))


def _feature_sections(found: TypeEvidence) -> list[Section]:
    if found.curves is None:
        return [Section("Sufficiency and necessity", 2, ("Not measured.",))]
    curves = found.curves
    areas = tuple(
        {
            "way": one["way"],
            "reference": one["reference"],
            **prefixed("area", one["area"]),
            **prefixed("random", one["random"]),
            **prefixed("ahead", one["ahead"]),
            "p": one["p"],
            "q": one["q"],
        }
        for one in curves["curves"]
    )
    columns = (
        ("way", ("way",)),
        ("reference", ("reference",)),
        ("area, circuit", three("area")),
        ("area, random", three("random")),
        ("difference", three("ahead")),
        ("q", ("q",)),
    )
    note = (
        f"n = {curves['n']} unseen cells; {curves['n_circuit']} of {curves['n_features']} features are in "
        f"the "
        "circuit. Sufficiency: the share of the target kept with the circuit's features alone; necessity: "
        "the share "
        "lost without them. Area over log2(1 + size). Random: other features of the same layers and "
        "activation."
    )
    points = tuple(
        {"way": one["way"], "reference": one["reference"], **point}
        for one in curves["curves"]
        for point in one["points"]
    )
    point_columns = (
        ("way", ("way",)),
        ("reference", ("reference",)),
        ("features", ("size",)),
        ("share", ("share", "low", "high")),
        ("random", ("random", "random_least", "random_most")),
    )
    said = (
        f"Share of the target over the size of the circuit (bands: 95% over {curves['units']}, "
        f"n = {curves['n']} unseen cells), beside random features of the same layers and activation "
        f"(band: least to most "
        "of the draws)."
    )
    chart = Picture("curves", said, lambda: charts.curves_chart(curves["curves"]))
    shares = Table(
        "curve_points", "Shares by size", "Random: mean [least, most of the draws].", point_columns, points
    )
    return [
        Section(
            "Sufficiency and necessity",
            2,
            (chart, Table("areas", "Areas beside matched random features", note, columns, areas), shares),
        )
    ]


def _steady_section(found: TypeEvidence) -> Section:
    rows = []
    for part in found.varied:
        index = part["jaccard"] or {"mean": None, "low": None, "high": None}
        rows.append({**part, **prefixed("index", index), "why": part["why"] or "measured"})
    columns = (
        ("varied", ("what",)),
        ("Jaccard [interval]", three("index")),
        ("interval", ("interval",)),
        ("by chance", ("chance",)),
        ("comparisons", ("comparisons",)),
        ("cells", ("n",)),
        ("", ("why",)),
    )
    note = (
        "Of the 20 strongest genes by mean frozen attribution; 1: the same genes. By chance: effects dealt "
        "anew among genes that stand beside each other in the sentences. Prompts and model seeds are "
        "those of `scx evidence stability`, "
        "where it was asked."
    )
    clean = tuple(
        {key: value for key, value in row.items() if key not in ("jaccard", "sets")} for row in rows
    )
    return Section("Stability", 2, (Table("stability", "What changes with what", note, columns, clean),))


def _settings(found: TypeEvidence) -> str:
    cfg = found.provenance.get("config", {}).get("types", {})
    words = ", ".join(f"{key} {value}" for key, value in cfg.items())
    seconds = sum(found.seconds.values())
    return f"Settings: {plain(words, 400)}. The measurement took {seconds:.0f} s of processor time."


def _provenance_table(found: TypeEvidence) -> Table:
    rows = []
    for key, value in found.provenance.items():
        if key in ("tool", "data", "model", "transcoders") and isinstance(value, Mapping):
            rows.append({"part": key, "what": ", ".join(f"{k} {plain(v, 80)}" for k, v in value.items())})
        elif key in ("seed", "cell_type"):
            rows.append({"part": key, "what": plain(value, 80)})
        elif key == "versions" and isinstance(value, Mapping):
            rows.append({"part": key, "what": ", ".join(f"{k} {plain(v, 30)}" for k, v in value.items())})
    rows += [
        {"part": f"answer of {one['question']}", "what": f"{one['source']}: {plain(one['says'], 160)}"}
        for one in found.further
    ]
    columns = (("part", ("part",)), ("identity", ("what",)))
    return Table("provenance", "What made this report", "", columns, tuple(rows))


def _tables_by_cell(found: TypeEvidence) -> tuple[Table, ...]:
    """What stands behind the means, for who wants to compute them again; not printed."""
    names = tuple(found.knockouts)
    single = tuple(dict(zip(names, row, strict=True)) for row in zip(*found.knockouts.values(), strict=True))
    doses = tuple(
        {"ranking": row["ranking"], "size": row["size"], "cell": c, "drop": drop}
        for row in found.doses
        for c, drop in enumerate(row["by_cell"])
    )
    by_cell = tuple((name, (name,)) for name in ("ranking", "size", "cell", "drop"))
    return (
        Table("knockouts_by_cell", "Single knock-outs by cell", "", tuple((n, (n,)) for n in names), single),
        Table("doses_by_cell", "Doses by cell", "", by_cell, doses),
    )

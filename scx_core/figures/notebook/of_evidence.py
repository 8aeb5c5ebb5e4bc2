"""Evidence in a notebook: each result as the tables of its report, rivals beside, with n and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scx_core.circuits import Target
from scx_core.circuits.words.wording import answered_in, competitor_sentences
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.evidence.curve_tables import area_rows, fraction_rows, point_rows
from scx_core.evidence.curves import Curves
from scx_core.evidence.feature_edits import FeatureEdits
from scx_core.evidence.knockouts.gene_lists import GeneLists
from scx_core.evidence.null_rates import NullRates, null_rows
from scx_core.evidence.redundancy import Redundancy
from scx_core.evidence.rivals import tables as rival_tables
from scx_core.evidence.rivals.rivals import Rivals
from scx_core.evidence.smallest.smallest_circuit import Smallest
from scx_core.evidence.stability import Stability, stability_rows
from scx_core.figures.drawing.text import plain
from scx_core.figures.notebook.of_circuits import banners, drawing_frame
from scx_core.figures.notebook.page import Banner, Block, Fold, Title
from scx_core.figures.report import charts
from scx_core.figures.report.document import document_of
from scx_core.figures.report.feature_answers import feature_edit_sections, redundancy_sections
from scx_core.figures.report.parts import Picture, Section, Table, cell, prefixed, three

SETS = {
    "ours": "searched",
    "greedy": "plain greedy",
    "influence_cut": "influence cut",
    "ours_as_cut": "searched, share of the cut",
    "greedy_as_cut": "plain greedy, share of the cut",
    "strict_cut": "cut of all kinds of nodes",
    "ours_as_strict_cut": "searched, share of that cut",
    "greedy_as_strict_cut": "plain greedy, share of that cut",
    "random": "random, same layers and activation",
}


def smallest_blocks(found: Smallest) -> list[Block]:
    """Every set of features with its size and what it keeps, what remains without any, the features."""
    facts, cells, added = found.whose, found.cells, found.added
    target = Target(found.target, "", None, {}, kind=facts["kind"], against=facts["against"])
    target = target._replace(left_out=tuple(facts["left_out"]), same_target=tuple(facts["same_target"]))
    unseen = len(cells["unseen"]) or 1
    left = (
        f"Without any feature {_number(found.logits['empty'])} of {_number(found.logits['full'])} "
        f"{facts['unit']} remain; the features add {_span(added._asdict())}, n = {unseen} cells."
    )
    rows = tuple(
        {"set": SETS.get(name, name), **one._asdict(), "reached": "yes" if one.reached else "no"}
        for name, one in found.sets.items()
    )
    columns = (
        ("set of features", ("set",)), ("features", ("size",)), ("kept, cells of the search", ("search",)),
        ("kept, unseen cells [95%]", ("unseen", "low", "high")), ("closeness", ("closeness",)),
        ("of the whole target [95%]", ("whole", "whole_low", "whole_high")), ("reached", ("reached",)),
    )  # fmt: skip
    note = (
        f"{found.measure.capitalize()} of {found.wanted:g} wanted, of what the features add; "
        f"{len(cells['search'])} cells searched, {len(cells['unseen'])} others verified. Searched less "
        f"random: {_span(found.ahead)}."
    )
    names = found.names or (None,) * len(found.nodes)
    nodes = tuple(
        {"feature": "L" + "·".join(map(str, node)), "name": plain(name or "", 80)}
        for node, name in zip(found.nodes, names, strict=True)
    )
    listed = Table(
        "nodes", "Features, the one that is missed most first", "", _same("feature", "name"), nodes
    )
    said = " ".join([answered_in(facts["called"], facts["of"]), *competitor_sentences(target)]).strip()
    return [
        Title(
            f"Smallest circuit of {plain(found.label, 60)}: {len(found.nodes)} features",
            plain(found.target, 200),
        ),
        *_faint(added.faint),
        said,
        left,
        Table("sets", "Sets side by side", note, columns, rows),
        Fold("The features", (listed,)),
    ]


def curves_blocks(found: Curves) -> list[Block]:
    """Sufficiency and necessity as curves and areas, beside matched random features."""
    record = found.to_json()
    note = (
        f"n = {found.n} unseen cells, 95% over {found.units}; {found.n_circuit} of {found.n_features} "
        "features are in the circuit. Area over log2(1 + size). Random: other features of the same layers "
        "and activation."
    )
    said = "Share of the target over the size; bands: 95%; grey: least to most of the random draws."
    faint = [reason for one in found.added.values() for reason in one.faint]
    return [
        Title(f"Sufficiency and necessity, {plain(found.label, 60)}", plain(found.target, 200)),
        *_faint(faint),
        Picture("curves", said, lambda: charts.curves_chart(record["curves"])),
        _text_table("areas", "Areas beside matched random features", note, area_rows([record])),
        Fold(
            "Shares by size; CPR and CMD",
            (
                _text_table("points", "Shares by size", note, point_rows([record])),
                _text_table(
                    "fractions", "CPR and CMD over fractions of all features", "", fraction_rows([record])
                ),
            ),
        ),
    ]


def edits_blocks(found: FeatureEdits) -> list[Block]:
    """The dose curve beside random features."""
    title = f"{found.mode.capitalize()} {len(found.features)} features, {plain(found.label, 60)}"
    return [Title(title, plain(found.target, 200)), *_sections(feature_edit_sections([found.to_json()]))]


def redundancy_blocks(found: Redundancy) -> list[Block]:
    """Joint beside the sum of singles, and what takes over."""
    title = f"Redundancy, {plain(found.label, 60)}"
    return [Title(title, plain(found.target, 200)), *_sections(redundancy_sections([found.to_json()]))]


def gene_lists_blocks(found: GeneLists) -> list[Block]:
    """Each list with random genes beside it, and each gene alone."""
    lists = tuple(
        {
            "list": f"{plain(one.name, 60)}: {one.does}",
            "genes": len(one.genes),
            "held": one.held,
            "p": one.p,
            "q": one.q,
        }
        | prefixed("effect", one.effect._asdict())
        | {"random": one.random.mean, "random_low": one.random_least, "random_high": one.random_most}
        | prefixed("ahead", one.ahead._asdict())
        for one in found.edits
    )
    columns = (
        ("list", ("list",)), ("genes", ("genes",)), ("held by a cell", ("held",)),
        ("change of log-odds, nats", three("effect")), ("random [least, most]", three("random")),
        ("beyond random", three("ahead")), ("q", ("q",)),
    )  # fmt: skip
    alone = tuple(
        {"gene": plain(gene.gene, 40), "does": one.does, "held": f"{gene.held} of {found.n}", "q": gene.q}
        | prefixed("effect", gene.effect._asdict())
        for one in found.edits
        for gene in one.alone
    )
    single = (
        ("gene", ("gene",)), ("edit", ("does",)), ("held by", ("held",)),
        ("change of log-odds, nats", three("effect")), ("q", ("q",)),
    )  # fmt: skip
    note = (
        f"n = {found.n} cells, 95% over {found.units}; log-odds before {_span(found.before._asdict())}. "
        f"Random: {found.draws} draws of genes of the same ranks. True of the model; of biology it says "
        "nothing."
    )
    blocks: list[Block] = [
        Title(f"Lists of genes edited, {plain(found.label, 60)}", f"answer {plain(found.answer, 60)}"),
        *(f"{plain(gene, 40)}: {plain(words, 200)}." for gene, words in found.absent),
        Table("lists", "Edited together", note, columns, lists),
    ]
    return blocks + (
        [Fold("Each gene alone", (Table("alone", "Alone", "", single, alone),))] if alone else []
    )


def stability_blocks(found: Stability) -> list[Block]:
    """One row a thing changed."""
    left = [f"Not changed: {plain(name, 40)} ({plain(why, 200)})." for name, why in found.left_out.items()]
    note = (
        f"n = {found.n_cells} cells. Jaccard's index of the strongest, Spearman's correlation of all [95%]."
    )
    title = f"Stability, {plain(found.label, 60)}"
    table = _text_table("stability", "What stays the same", note, stability_rows(found.to_json()))
    return [Title(title, f"answer {plain(found.answer, 60)}"), table, *left]


def rivals_blocks(found: Rivals) -> list[Block]:
    """Sets as wholes, and in every type."""
    record = found.to_json()
    parts = {
        "Sets as wholes": rival_tables.set_rows(record),
        "Fewest features for the wanted share (share kept in unseen cells [95%]; without any)": (
            rival_tables.size_rows(record)
        ),
        "Rank correlation with measured knock-outs, neutral gene [95%]": rival_tables.agreement_rows(
            record, "gap"
        ),
        "The same, gene taken out": rival_tables.agreement_rows(record, "text"),
        "Known markers among the strongest genes": rival_tables.marker_rows(record),
    }
    tables = [_text_table(f"rivals_{k}", name, "", rows) for k, (name, rows) in enumerate(parts.items())]
    return [Title("Rivals side by side"), *rival_tables.sentences(record), *tables]


def null_rates_blocks(found: NullRates) -> list[Block]:
    """One row a call."""
    note = "Labels dealt anew: nothing is to be found, and each call should say so. 95% in brackets."
    table = _text_table("null_rates", "False-positive rates", note, null_rows(found.to_json()))
    return [Title("How often is something said of nothing?"), table]


def type_blocks(found: TypeEvidence) -> list[Block]:
    """The ladder, the circuit, and every section of the report in a fold."""
    document = document_of(found)
    first, warnings, *rest = document.sections
    circuit = found.drawn
    folds = [
        Fold(section.title, tuple(section.parts)) for section in rest if section.level == 2 and section.parts
    ]
    return [
        Title(document.title, document.subtitle),
        *first.parts,
        Fold(f"Warnings: {len(warnings.parts)}", tuple(warnings.parts)),
        *banners(circuit),
        Fold("The circuit, to be touched", (drawing_frame(circuit),)),
        *folds,
    ]


def _sections(sections: Sequence[Section]) -> list[Block]:
    return [part for section in sections for part in section.parts]


def _faint(reasons: Sequence[str]) -> list[Block]:
    words = f"Faint: {plain('; '.join(reasons), 400)}. Shares of so little say little."
    return [Banner(words, grave=False)] if reasons else []


def _same(*names: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Columns that are called as their keys."""
    return tuple((name, (name,)) for name in names)


def _text_table(
    name: str, title: str, note: str, found: tuple[Sequence[str], Sequence[Sequence[str]]]
) -> Table:
    """A table that is text already, as a command prints it."""
    header, rows = found
    columns = tuple((str(title), (str(k),)) for k, title in enumerate(header))
    shown = tuple({str(k): value for k, value in enumerate(row)} for row in rows)
    return Table(name, title, note, columns, shown)


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _span(found: Mapping[str, Any]) -> str:
    return cell(prefixed("x", found), three("x"))

"""Every sentence around a drawing: heading, hover lines, what is hidden, caption, provenance line.

"Frozen attribution" is what a gene or feature adds to the answer's score in the frozen model, over all paths;
"lost without it" is what the real model loses; "share" is a share of cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scx_core.circuits.circuit import Circuit, GeneEffect, Node, Target
from scx_core.circuits.feature_names import ANSWER_POSITION, GENE, GENE_SHARE, PROMPT_WORD
from scx_core.circuits.marker_counts import count_words, counts_of
from scx_core.circuits.words.whose import forbidden, mismatch_note, name_of, validation_note, whose
from scx_core.circuits.words.wording import answer_frequency, circuit_sentences, faint_note
from scx_core.evidence.ladder import ladder_words
from scx_core.figures.drawing.select import Flow, Group, Selection
from scx_core.figures.drawing.text import number, percent, plain, several, signed
from scx_core.statistics.hypothesis_tests import Q

NOT_TOLD = "not told from 0"
_SCORE_NAMES = {"replacement": "replacement score", "completeness": "completeness"}


def sides(circuit: Circuit) -> tuple[str, str] | None:
    """What a difference compares, first less second; None for another circuit. The names may be anyone's."""
    if circuit.scope != "difference":
        return None
    stated = circuit.provenance.get("compared")
    if isinstance(stated, (list, tuple)) and len(stated) == 2:
        return plain(str(stated[0]), 40) or "first", plain(str(stated[1]), 40) or "second"
    return "first", "second"


def direction(circuit: Circuit, effect: float, q: float | None) -> str:
    """What may be said of an effect: "effect higher in NK" or "no difference found" in a difference;
    "raises", "lowers" or "not told from 0" else. Without q (one cell, an older file) the sign decides, and a
    difference says that it was not tested."""
    both = sides(circuit)
    if effect == 0:
        return "no difference found" if both else "none"
    if both is None:
        return NOT_TOLD if not_told(q) else "raises" if effect > 0 else "lowers"
    if q is not None and q >= Q:
        return "no difference found"
    untested = "" if q is not None else " (not tested)"
    return f"effect higher in {both[0] if effect > 0 else both[1]}{untested}"


def called(circuit: Circuit, value: float, q: float | None) -> float:
    """What a colour may show of a value: nothing (0) where it is not told from 0, or no difference was
    found. Without q (one cell, an older file) the value itself."""
    return 0.0 if not_told(q) else value


def not_told(q: float | None) -> bool:
    """Whether a test was made and did not tell the effect from 0."""
    return q is not None and q >= Q


def signs(circuit: Circuit) -> tuple[str, str, str]:
    """What warm and cool mean in this circuit, and grey: "" where nothing is grey."""
    both = sides(circuit)
    if both is None:
        tested = any(
            row.q is not None for rows in (circuit.genes, circuit.nodes, circuit.edges) for row in rows
        )
        return "raises what it points to", "lowers it", NOT_TOLD if tested else ""
    return f"effect higher in {both[0]}", f"effect higher in {both[1]}", "no difference found"


def title(circuit: Circuit) -> str:
    """What the data call the cells, and what is explained and what the model says where that is not the same;
    both sides of a difference; the target's wording when it has no answer."""
    both = sides(circuit)
    if both and both != ("first", "second"):
        return f"{both[0]} less {both[1]}"
    found = whose(circuit)
    return plain(name_of(found), 120) if found else answer(circuit)


def answer(circuit: Circuit) -> str:
    """What the model is asked for: the answer, or the target's wording when there is none."""
    return plain(circuit.target.answer or circuit.target.label, 60) or "Circuit"


def subtitle(circuit: Circuit) -> str:
    """Scope and competitors in one line."""
    if circuit.scope == "difference":
        return f"{plain(circuit.target.label, 120)} · {several(circuit.n_cells, 'cell')}"
    scope = "one cell" if circuit.scope == "cell" else f"consensus of {several(circuit.n_cells, 'cell')}"
    rivals = against(circuit.target)
    return scope + (f" · {rivals}" if rivals else "")


def against(target: Target, most: int = 2) -> str:
    """ "against B cell", "against 9 other types" when they are more than `most`, or nothing."""
    if not target.against:
        return ""
    if len(target.against) > most:
        return f"against {len(target.against)} other types"
    return "against " + " and ".join(plain(name, 28) for name in target.against)


def scores(circuit: Circuit) -> str:
    """Replacement score and completeness (method §6), when they are known."""
    return " · ".join(
        f"{name} {number(circuit.scores[key], 2)}"
        for key, name in _SCORE_NAMES.items()
        if key in circuit.scores
    )


def notes(circuit: Circuit, selection: Selection, show_errors: bool, show_bias: bool) -> tuple[str, ...]:
    """What the drawing leaves out, one clause each."""
    given = "" if circuit.scope == "cell" and circuit.scores.get("called") else answer_frequency(circuit)
    forbids = validation_note(circuit) if forbidden(circuit) else ""
    told = forbids, mismatch_note(circuit), faint_note(circuit), given
    lines = [plain(text[0].lower() + text[1:], 400).rstrip(".") for text in told if text]
    lines += [f"not compared: {rest}" for rest in [_left_out(circuit.target)] if rest]
    for key, shown, what in (
        ("error_share", show_errors, "of the influence starts at reconstruction errors"),
        ("bias_share", show_bias, "of what its nodes receive is bias"),
    ):
        if key in circuit.scores:
            hidden = "" if shown else " (not drawn)"
            lines.append(f"{percent(circuit.scores[key])} {what}{hidden}")
    counts = counts_of(circuit)
    if counts is not None:
        lines.append(count_words(counts))
    parts = ((selection.hidden_features, "feature"), (selection.hidden_edges, "weaker arrow"))
    left_out = [several(count, what) for count, what in parts if count > 0]
    if left_out:
        lines.append(f"{' and '.join(left_out)} of the circuit not drawn")
    return tuple(lines)


def _left_out(target: Target, most: int = 4) -> str:
    """The answers that the target does not set this one against, where some are in and some are out."""
    if not (target.against and target.left_out):
        return ""
    some = [plain(name, 28) for name in target.left_out[:most]]
    rest = len(target.left_out) - len(some)
    return ", ".join(some) + (f" and {rest} more" if rest else "")


def caption(circuit: Circuit) -> str:
    """The figure's caption: what is drawn, for whom, from what, and how to read it."""
    n = several(circuit.n_cells, "cell")
    scope = "in one cell" if circuit.scope == "cell" else f"over {n} (consensus)"
    rivals = against(circuit.target)
    found = whose(circuit)
    cells = f", which the data call {plain(found.label, 60)}" if found else ""
    what = f"Circuit of the answer {answer(circuit)} {scope}{cells}" + (f", {rivals}" if rivals else "")
    if circuit.scope == "difference":
        first, second = sides(circuit) or ("first", "second")
        what = (
            f"Difference of two circuits over {n}: every number is the mean in {first} less that in {second}"
        )
    target = plain(circuit.target.label, 90)
    made = [
        f"{label} {name}"
        for key, label in (("data", "Cells:"), ("model", "Model:"), ("transcoders", "Transcoders:"))
        if (name := _name(circuit.provenance.get(key)))
    ]
    made += [plain(circuit.provenance["names"], 90)] if circuit.provenance.get("names") else []
    sentences = [
        what,
        f"Target: {target}" if target not in ("", f"{answer(circuit)} {rivals}") else "",
        *(plain(text, 900).rstrip(".") for text in circuit_sentences(circuit)),
        "; ".join(made),
        scores(circuit).capitalize(),
        plain(ladder_words(circuit), 400),
        "Bottom: genes in the order of the cell sentence"
        + ("" if circuit.scope == "cell" else " (mean rank)")
        + f"; middle: transcoder features by layer{_naming(circuit)}; top: the answer",
        "Frozen attribution is what a gene adds to the answer's score in the frozen model, over all paths, "
        f"in {_measure(circuit)}; not what the model loses without it",
    ]
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


def _naming(circuit: Circuit) -> str:
    """How the boxes of features are called, as far as they have names, and what their second line says."""
    features = [node for node in circuit.nodes if node.kind == "feature"]
    given = [node for node in features if node.name_source not in (None, "circuit")]
    says = ", called after what they are active at" if any(node.name_source for node in features) else ""
    if given:
        at_answer = sum(stands_here(node) == AT_ANSWER for node in given)
        says += (
            f" in all the cells that were read for their names, not in these alone: {at_answer:,} of "
            f"{len(given):,} stand here at the answer"
        )
    if any(node.driven_by for node in features):
        says += (
            f", with the gene that adds most to them over all paths and its share (“driven by” from "
            f"{percent(GENE_SHARE)} on)"
        )
    return says


def provenance_line(provenance: Mapping[str, Any]) -> str:
    """Tool, data@fingerprint, model@fingerprint, transcoders@fingerprint and seed, in one row."""
    tool = provenance.get("tool")
    parts = [
        f"{plain(tool.get('name', 'scX'))} {plain(tool.get('version', ''))}".strip()
        if isinstance(tool, Mapping)
        else "scX"
    ]
    for key in ("data", "model", "transcoders"):
        name, mark = _name(provenance.get(key)), _fingerprint(provenance.get(key))
        if name or mark:
            parts.append(f"{name or key}@{mark}" if mark else name)
    if provenance.get("names"):
        parts.append(plain(provenance["names"], 80))
    if provenance.get("seed") is not None:
        parts.append(f"seed {plain(provenance['seed'], 12)}")
    return " · ".join(parts)


def _name(thing: Any) -> str:
    if isinstance(thing, Mapping):
        thing = thing.get("name") or thing.get("source") or ""
    return "" if thing is None else plain(str(thing).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1], 32)


def _fingerprint(thing: Any) -> str:
    return plain(thing.get("fingerprint") or "")[:8] if isinstance(thing, Mapping) else ""


def measured(gene: GeneEffect | None, circuit: Circuit) -> list[str]:
    """What the real model loses without a gene, one line a way; nothing where it was not measured."""
    ways = {
        "gap": "lost without it (a neutral gene in its place)",
        "text": "lost without it (the rest moved up)",
        "estimate": "estimated loss without it",
    }
    lines = []
    for key, name in ways.items():
        found = getattr(gene, key, None)
        if found is not None:
            bounded = found.low is not None and found.high is not None
            span = f" [{number(found.low, 2)}, {number(found.high, 2)}], n = {found.n}" if bounded else ""
            lines.append(f"{name} {signed(found.mean)} {circuit.target.unit}{span}")
    return lines


def gene_hover(group: Group, effect: GeneEffect | None, circuit: Circuit, known: str) -> tuple[str, ...]:
    """Lines for a gene: what is lost without it, frozen attribution, cells, rank, tokens, marker."""
    lines = [
        plain(group.gene or ""),
        *measured(effect, circuit),
        f"frozen attribution {signed(effect.effect if effect else group.effect)} {circuit.target.unit}"
        + _deviation(effect.sd if effect else 0.0),
        *tested(circuit, effect.effect if effect else group.effect, effect.q if effect else None),
    ]
    if circuit.scope != "cell":
        if effect:
            lines.append(
                f"in the sentence of {effect.n_cells:,} of {several(circuit.n_cells, 'cell')}"
                f" ({percent(effect.share)}), mean rank {number(effect.rank)}"
            )
    else:
        rank = f"rank {effect.rank:.0f} in the sentence, " if effect else ""
        lines.append(rank + several(len(group.members), "token"))
    lines.append(f"{percent(group.influence)} of the target's input starts here")
    return (*lines, known) if known else tuple(lines)


def feature_hover(group: Group, label: str | None, circuit: Circuit) -> tuple[str, ...]:
    """Lines for a feature: name and what it rests on, driver, frozen attribution, influence, cells."""
    first = leading(group)
    lines = [
        feature_title(first, label),
        f"layer {first.layer}, features that act together"
        if first.feature is None
        else f"layer {first.layer}, feature {first.feature}",
        *name_grounds(first, circuit),
        driven_by(first, share=True),
        f"frozen attribution {signed(group.effect)} {circuit.target.unit}" + _deviation(first.sd),
        *tested(circuit, group.effect, first.q if len(group.members) == 1 else None),
        f"{percent(group.influence)} of the target's input flows through it",
    ]
    activations = [node.activation for node in group.members if node.activation is not None]
    if activations:
        lines.append(
            f"activation {number(max(activations))}"
            + (f" (largest of {len(activations)} tokens)" if len(activations) > 1 else "")
        )
    if circuit.scope != "cell":
        lines.append(f"in {percent(group.share)} of {several(circuit.n_cells, 'cell')}")
    elif first.token:
        gene = f" of {plain(group.gene, 24)}" if group.gene else ""
        lines.append(f"stands at the token “{plain(first.token, 24)}”{gene}")
    return tuple(line for line in lines if line)


def leading(group: Group) -> Node:
    """The node of a group that has most influence: the one that speaks for it."""
    return max(group.members, key=lambda node: node.influence)


def feature_title(node: Node, label: str | None = None, limit: int | None = None) -> str:
    """What a feature is called: the label that the caller gives, else its name, else its gene or number.

    A list of genes that is longer than `limit` loses its last ones.
    """
    text = plain(label or node.name or node.gene or feature_name(node)) or feature_name(node)
    while limit is not None and len(text) > limit and ", " in text:
        text = text.rsplit(", ", 1)[0].removesuffix(" …") + " …"
    return plain(text, limit)


def driven_by(node: Node, share: bool = False, brief: bool = False) -> str:
    """ "driven by MZB1 31%" where the gene adds at least a quarter of what tokens add to the feature, else
    "most from MZB1 6%", or `brief` "MZB1 6%": no single gene drives it. `share`: in full. Empty where no
    gene adds."""
    if not node.driven_by:
        return ""
    driver = plain(node.driven_by, 24)
    if node.driven_share is None:  # a file of before shares were kept
        return f"driven by {driver}"
    words = "driven by " if node.driven_share >= GENE_SHARE else "" if brief else "most from "
    if share:
        return f"{words}{driver}: {percent(node.driven_share)} of what tokens add to it, over all paths"
    return f"{words}{driver} {100 * node.driven_share:.0f}%"


AT_ANSWER = "at answer"


def stands_here(node: Node) -> str:
    """ "at answer" where the feature stands in this circuit, if its name, which an atlas or a person
    gave, does not say so: a feature that is mostly active at a gene may carry its trace to the answer."""
    if not node.active_at or node.name_source in (None, "circuit") or node.active_at == node.name:
        return ""
    for place, words in ((ANSWER_POSITION, AT_ANSWER), (PROMPT_WORD, "at prompt")):
        if node.active_at.startswith(place):
            return words
    return (
        ""
        if node.name_kind == GENE and node.active_at in (node.name or "")
        else f"at {plain(node.active_at, 16)}"
    )


_SAYS = {"atlas": "says the atlas", "circuit": "in these cells"}


def name_grounds(node: Node, circuit: Circuit) -> tuple[str, ...]:
    """What a feature's name rests on, and where the feature stands in this circuit if that is another
    place."""
    lines = []
    if node.name_source == "label":
        lines.append("a person's label")
    elif node.name and node.name_source:
        says = _SAYS.get(node.name_source, f"says {plain(node.name_source, 24)}")
        says = "in this cell" if node.name_source == "circuit" and circuit.scope == "cell" else says
        share = "" if node.name_share is None else f", {percent(node.name_share)} of its activation"
        kind = f"{plain(node.name_kind, 24)}" if node.name_kind else "name"
        lines.append(f"{kind}{share}, {says}")
    if node.active_at and node.active_at != node.name:
        cells = "this cell" if circuit.scope == "cell" else "these circuits"
        share = "" if node.active_share is None else f", {percent(node.active_share)} of it in {cells}"
        lines.append(f"stands here at: {plain(node.active_at, 40)}{share}")
    return tuple(lines)


def prompt_box(circuit: Circuit) -> str:
    """What the box of the tokens that are no gene's holds: the prompt's words, and with an answer of several
    tokens those that are given before the one that decides."""
    return "prompt + answer words" if circuit.target.teacher_forced else "prompt"


def _given(circuit: Circuit) -> str:
    forced = " ".join(plain(word, 24) for word in circuit.target.teacher_forced)
    return f" and those of the answer that are given before it decides: {forced}" if forced else ""


def other_hover(group: Group, circuit: Circuit) -> tuple[str, ...]:
    """Lines for the prompt, an error, the biases or the target."""
    if group.kind == "target":
        target = circuit.target
        lines = [answer(circuit), plain(target.label), f"score {signed(target.value)} {target.unit}"]
        if target.teacher_forced:
            lines.append("given before it: " + " ".join(plain(word, 24) for word in target.teacher_forced))
        return tuple(line for line in lines if line)
    heading = {
        "prompt": f"the prompt's own words{_given(circuit)} ({several(len(group.members), 'token')})",
        "bos": f"{plain(group.members[0].name, 40)}: the token of beginning, which is no text",
        "error": f"reconstruction error of layer {group.layer}",
        "bias": "biases",
    }[group.kind]
    return (
        heading,
        f"frozen attribution {signed(group.effect)} {circuit.target.unit}",
        f"{percent(group.influence)} of the target's input",
    )


def link_hover(flow: Flow, names: Mapping[str, str], circuit: Circuit) -> tuple[str, ...]:
    """Lines for an arrow: ends, weight with its unit, share of the input, cells."""
    unit = circuit.target.unit if flow.target.startswith("target ") else "of pre-activation"
    lines = [
        f"{names[flow.source]} → {names[flow.target]}",
        f"direct effect {signed(flow.weight)} {unit}" + _deviation(flow.sd),
        *tested(circuit, flow.weight, flow.q),
        f"{percent(flow.input_share)} of the input of {names[flow.target]}",
        f"{percent(flow.strength)} of the target's input",
    ]
    if circuit.scope != "cell":
        lines.append(f"in {percent(flow.share)} of {several(circuit.n_cells, 'cell')}")
    return tuple(lines)


def feature_name(node: Node) -> str:
    """ "L2·513"; of features that act together, their layer."""
    return f"L{node.layer} · joined" if node.feature is None else f"L{node.layer}·{node.feature}"


def _measure(circuit: Circuit) -> str:
    return circuit.target.unit.removeprefix("of ")


def tested(circuit: Circuit, value: float, q: float | None) -> list[str]:
    """What the test of a mean allows to be said of it; nothing where there was none."""
    return [] if q is None else [f"{direction(circuit, value, q)} (q {number(q, 2)})"]


def _deviation(sd: float) -> str:
    return f" (sd {number(sd, 2)})" if sd else ""

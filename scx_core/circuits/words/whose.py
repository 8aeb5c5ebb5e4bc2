"""Whose circuit it is: what the data call the cells, which answer is explained, and what the model says.

The three agree for a model that knows the cells; where they do not, a circuit explains an answer that the
model does not give, or a type that it has no name for, and everything that shows the circuit says so. All of
it stands in the circuit's provenance, which may be anybody's: escape what becomes HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scx_core.circuits.circuit import Circuit
from scx_core.statistics.intervals import wilson

LABEL, CELL, SAYS, MAPPED, VALIDATION = "cell_type", "cell", "model_says", "mapped_answer", "validation"
ELSEWHERE = "answer_elsewhere"  # the explained answer, given to cells of other types
TRAINING_CELLS = "training_cells"  # of the cells, those that the transcoders were trained on
ENOUGH = 10  # own cells
UNKNOWN = "unknown"  # nobody validated the transcoders
UNMEASURED = (
    "How closely they stand in on these cells is not measured: the page Validate does, and scx validate."
)
NOT = "no"  # scx_core.validation.warnings.NOT


class Whose(NamedTuple):
    """`label`: what the data call the cells; `answer`: what is explained; `mapped`: the answer that the
    mapping of labels gives this label ("": none; None: not stated); `says`: the model's most frequent answer,
    to `k` of `n` cells ("" where it was not asked), of equally frequent ones the one that is explained;
    `given`: cells to which it gives the explained answer."""

    label: str
    answer: str
    mapped: str | None
    says: str
    k: int
    n: int
    given: int = 0


class Elsewhere(NamedTuple):
    """To `k` of `n` cells that were drawn from `n_types` other types the model gives the explained answer."""

    k: int
    n: int
    n_types: int


def said(
    label: str, mapped: str | None, given: Sequence[str], elsewhere: Elsewhere | None = None
) -> dict[str, Any]:
    """For a provenance: the label's own answer, how often the model gives which answer, and how often it
    gives the explained one to cells of other types."""
    counts = Counter(given)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    found = {MAPPED: mapped or "", SAYS: {name: counts[name] for name in ranked}}
    return found if elsewhere is None else found | {ELSEWHERE: elsewhere._asdict()}


def elsewhere_of(circuit: Circuit) -> Elsewhere | None:
    """How often the answer is given to cells of other types; None where nobody asked."""
    stated = circuit.provenance.get(ELSEWHERE)
    if not isinstance(stated, Mapping):
        return None
    k, n, n_types = (stated.get(name) for name in Elsewhere._fields)
    if not (isinstance(k, int) and isinstance(n, int) and isinstance(n_types, int)):
        return None
    return Elsewhere(k, n, n_types) if 0 <= k <= n and n > 0 and n_types >= 0 else None


def elsewhere_words(circuit: Circuit) -> str:
    """ "It gives it to 3 of 45 cells of 9 other types too (2% to 18%)."; empty where nobody asked."""
    found = elsewhere_of(circuit)
    if found is None:
        return ""
    low, high = wilson(found.k, found.n)
    types = "another type" if found.n_types == 1 else f"{found.n_types} other types"
    too = " too" if found.k else ""
    return f"It gives it to {found.k} of {found.n} cells of {types}{too} ({low:.0%} to {high:.0%})."


def not_told_apart(circuit: Circuit) -> str:
    """That the model gives the answer to cells of other types about as often: 95% intervals overlap, of
    `ENOUGH` own cells at least (of fewer they nearly always do), or most of the others get it."""
    own, other = whose(circuit), elsewhere_of(circuit)
    if own is None or other is None or own.n < 2 or not own.given:
        return ""
    to_others = wilson(other.k, other.n)
    overlap = own.n >= ENOUGH and wilson(own.given, own.n)[0] <= to_others[1]
    if not overlap and to_others[0] <= 0.5:
        return ""
    return (
        f"The model does not tell these cells from others by this answer: it gives {own.answer} to "
        f"{own.given} of these {own.n} cells and to {other.k} of {other.n} of other types."
    )


def whose(circuit: Circuit) -> Whose | None:
    """Label, answer and what the model says; None for a difference, a feature's circuit or a file that does
    not state a label."""
    answer = circuit.target.answer
    if circuit.scope == "difference" or not answer:
        return None
    label = circuit.provenance.get(LABEL)
    cell = circuit.provenance.get(CELL)
    if circuit.scope == "cell" and isinstance(cell, Mapping):
        label = cell.get("cell_label")
    if not isinstance(label, str) or not label:
        return None
    mapped = circuit.provenance.get(MAPPED)
    stated = circuit.provenance.get(SAYS)
    counts = {}
    if isinstance(stated, Mapping):
        counts = {str(name): k for name, k in stated.items() if isinstance(k, int) and k > 0}
    says = max(sorted(counts), key=lambda name: (counts[name], name == answer)) if counts else ""
    of, given = sum(counts.values()), counts.get(answer, 0)
    known = mapped if isinstance(mapped, str) else None
    return Whose(label, answer, known, says, counts.get(says, 0), of, given)


def name_of(found: Whose, most: int = 40) -> str:
    """ "B cell", "B cell, model says CD19+ B", "B cell as CD34+, model says CD19+ B"."""
    label, answer, says = (_short(text, most) for text in (found.label, found.answer, found.says))
    if found.says and found.says != found.answer:
        head = label if found.label == found.answer else f"{label} as {answer}"
        return f"{head}, model says {says}"
    if found.label == found.answer:
        return label
    return f"{label}, model says {says}" if found.says else f"{label} as {answer}"


def mismatch_note(circuit: Circuit) -> str:
    """That the model does not give the answer that is explained, that it gives it to other cells as well, or
    that it is not the label's own; empty where all agree."""
    found = whose(circuit)
    if found is None:
        return ""
    lines = []
    if found.says and found.says != found.answer:
        lines.append(_otherwise(found))
    apart = not_told_apart(circuit)
    if apart:
        lines.append(apart)
    if found.mapped == "":
        lines.append(f"The mapping of labels has no answer for {found.label}; {found.answer} is explained.")
    elif found.mapped is not None and found.mapped != found.answer:
        lines.append(
            f"The mapping of labels calls {found.label} {found.mapped}; {found.answer} is explained."
        )
    return " ".join(lines)


def _otherwise(found: Whose) -> str:
    """What the model calls the cells instead, and how often it gives the answer that is explained."""
    share = "most of these cells" if 2 * found.k > found.n else "the largest part of these cells"
    cells = "this cell" if found.n == 1 else f"{share} ({found.k} of {found.n})"
    words = (
        f"The model calls {cells} {found.says}, not {found.answer}: this circuit explains an answer that it "
    )
    return words + (f"gives to only {found.given} of {found.n}." if found.given else "does not give.")


def forbidden(circuit: Circuit) -> bool:
    """Whether validation says that circuits of this model and these transcoders are not to be read."""
    return _validation(circuit).get("read") == NOT


def validation_note(circuit: Circuit) -> str:
    """What validation says of the model and the transcoders; empty for a file that does not state it."""
    stated = _validation(circuit)
    if stated.get("read") == UNKNOWN:
        return "Nobody has validated these transcoders."
    words = stated.get("words")
    if not isinstance(words, str) or not words:
        return ""
    if stated.get("same_data"):
        return f"Validation: {words}"
    return (
        f"Validation, not on these cells but on {_short(str(stated.get('data')), 40)}: {words} {UNMEASURED}"
    )


def validated_elsewhere(circuit: Circuit) -> str:
    """That the transcoders were validated on other cells alone, and what to do; empty where they were on
    these, where nobody has, and where they are not to be read anyway."""
    stated = _validation(circuit)
    data, words = stated.get("data"), stated.get("words")
    if stated.get("read") in (UNKNOWN, NOT) or stated.get("same_data") or not data:
        return ""
    if not isinstance(words, str) or not words:
        return ""
    where = _short(str(data), 40)
    return f"The transcoders were validated on {where}, not on these cells. {UNMEASURED}"


def training_note(circuit: Circuit) -> str:
    """That cells of the circuit are among those that the transcoders were trained on, where they may err less
    than on new ones; empty where none is, or nobody knows."""
    return training_words(circuit.provenance)


def training_words(provenance: Mapping[str, Any]) -> str:
    """ "12 of the 30 cells were also used to train the transcoders."; empty where none was, or nobody
    knows."""
    stated = provenance.get(TRAINING_CELLS)
    k, n = (stated.get(name) for name in ("k", "n")) if isinstance(stated, Mapping) else (None, None)
    if not (isinstance(k, int) and isinstance(n, int) and 0 < k <= n):
        return ""
    cells = "The cell was" if n == 1 else f"{k} of the {n} cells {'was' if k == 1 else 'were'}"
    return f"{cells} also used to train the transcoders."


def accuracy_note(circuit: Circuit) -> str:
    """In how many held-out cells the model is right, and of which data where they are others, to stand beside
    scores; empty if unknown."""
    stated = _validation(circuit)
    right, n = stated.get("accuracy"), stated.get("n_cells")
    if not isinstance(right, (int, float)) or not isinstance(n, int):
        return ""
    data = stated.get("data")
    where = "" if stated.get("same_data") or not data else f" of {_short(str(data), 40)}, not of these data,"
    return f"The model names {right:.0%} of {n} held-out cells{where} rightly."


def _validation(circuit: Circuit) -> Mapping[str, Any]:
    stated = circuit.provenance.get(VALIDATION)
    return stated if isinstance(stated, Mapping) else {}


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"

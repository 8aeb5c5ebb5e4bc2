"""A circuit in sentences, for every place that shows it: which answer is explained, against which
competitors, how often the model gives it, and what the tests of a consensus or a difference found.

Names of types are in them as they are in the data, and a file's record may be anybody's: escape what becomes
HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from scx_core.circuits.circuit import NOTHING, Circuit, Target
from scx_core.circuits.words.whose import elsewhere_words, mismatch_note, training_note, validation_note
from scx_core.sentences import Ties
from scx_core.statistics.hypothesis_tests import Q
from scx_core.statistics.intervals import wilson

FAMILIES = ("genes", "features", "edges")
COUNTS = 0.05  # a competitor's share of the competitors' probability that is worth a name
CHOSEN = "chosen as the largest in these same cells; not a test on new cells"
MANY_ERRORS = 10.0  # what an effect over few donors must be times its error, from which on that is said


def listed(types: Sequence[str]) -> str:
    """ "A, B and C"."""
    return " and ".join(part for part in (", ".join(types[:-1]), *types[-1:]) if part)


def answer_frequency(circuit: Circuit) -> str:
    """How often the model itself gives the explained answer, as a whole and of all its answers; empty where
    that was not asked. An interval is Wilson's, 95%."""
    called = circuit.scores.get("called")
    if called is None or circuit.scope == "difference":
        return ""
    if circuit.scope == "cell":
        return f"The model {'gives' if called else 'does not give'} this answer for this cell."
    n = circuit.n_cells
    return f"{answered_in(min(max(round(called * n), 0), n), n)} {elsewhere_words(circuit)}".strip()


def answered_in(k: int | None, n: int) -> str:
    """For how many of how many cells the model gives the answer, with a 95% interval; empty if not asked."""
    if k is None:
        return ""
    low, high = wilson(k, n)
    cells = "the cell" if n == 1 else f"{k} of the {n} cells ({low:.0%} to {high:.0%})"
    return f"The model {'does not give' if n == 1 and not k else 'gives'} this answer for {cells}."


def competitor_sentences(target: Target) -> list[str]:
    """Which answers the target is read against, which count, and which it says nothing about."""
    sentences = []
    if target.kind in ("answer", "contrast") and target.against:
        how = "whole answers" if target.kind == "answer" else "the one token that parts them"
        sentences.append(f"Read against {listed(target.against)} ({how}).")
    shares = zip(target.against, target.rival_shares, strict=False)
    most = sorted(((share, name) for name, share in shares if share >= COUNTS), reverse=True)
    if most and len(target.against) > 1:
        counted = listed([f"{name} ({share:.0%})" for share, name in most])
        sentences.append(f"The competitors' probability lies with {counted}.")
    if target.left_out is None and target.kind not in ("token", "feature"):
        sentences.append("This file does not say which of the model's answers are left out.")
    elif target.left_out and target.kind not in ("token", "feature"):
        sentences.append(f"Says nothing about {listed(target.left_out)}.")
    if target.same_target:
        sentences.append(f"{listed(target.same_target)} would have this very target.")
    return sentences


def faint_note(circuit: Circuit) -> str:
    """That there is next to nothing to explain, and why; empty where there is something."""
    if not circuit.faint:
        return ""
    value, genes = circuit.target.value, circuit.scores.get("gene_effect", 0.0)
    unit = circuit.target.unit
    if abs(value) < NOTHING:
        return f"Nothing to explain: the score is {value:.2f} {unit}, less than {NOTHING:g}."
    return f"Next to nothing to explain: all genes together add {genes:.2f} {unit} to a score of {value:.2f}."


def other_text_note(circuit: Circuit) -> str:
    """That the transcoders were trained on another text than they read here; empty where not."""
    made = circuit.provenance.get("transcoders")
    mark = made.get("as_is") if isinstance(made, dict) else None
    if not isinstance(mark, dict) or not mark:
        return ""
    differing = [
        f"{name} {one.get('trained')} there, {one.get('used')} here" if isinstance(one, dict) else name
        for name, one in mark.items()
    ]
    return f"The transcoders were trained on another text ({'; '.join(differing)}) and are used as they are."


def circuit_sentences(circuit: Circuit) -> list[str]:
    """Every sentence about the answer that a circuit explains, those that matter most first."""
    warnings = mismatch_note(circuit), faint_note(circuit), other_text_note(circuit)
    notes = (*warnings, answer_frequency(circuit), *competitor_sentences(circuit.target))
    return [text for text in (*notes, training_note(circuit), validation_note(circuit)) if text]


def statistics_sentences(circuit: Circuit) -> list[str]:
    """How many of how many differ at which rule, what the same rule finds in random halves of one side, over
    what the intervals are, and whether the cells are too few to find anything.

    Empty for a circuit without tests: one cell, a file of before, or one whose record cannot be read. The
    record may be anybody's: escape what is shown as HTML.
    """
    record = circuit.provenance.get("statistics")
    if not isinstance(record, Mapping):
        return []
    ties = tie_words(circuit)
    verb = "differ" if circuit.scope == "difference" else "are told from 0"
    try:
        families = record["families"]
        # All genes of the sentences are tested; of features and edges those that the cells' circuits hold.
        picked = [name for name in FAMILIES if name in families and name != "genes"]
        lines = [_found(["genes"], families, verb, "")] if "genes" in families else []
        lines += [_found(picked, families, verb, f"; {CHOSEN}")] if picked else []
        return [*lines, f"Tests and intervals: {record['note']}.", *_too_few(record), *ties]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def donors_tested(circuit: Circuit) -> list[str]:
    """That tests and intervals are over donors and not over the cells, and whether these are too few to tell
    anything from 0: to stand wherever the cells are counted beside an interval. Empty where cells are tested.
    """
    record = circuit.provenance.get("statistics")
    try:
        if not isinstance(record, Mapping) or record["unit"] != "donors":
            return []
        return [f"Tests and intervals: {record['note']}.", *_too_few(record)]
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def tie_words(circuit: Circuit) -> list[str]:
    """How much of the sentences the order of ties decides; nothing where the file does not say."""
    stated = circuit.provenance.get("ties")
    try:
        return [Ties(**stated).words()] if isinstance(stated, Mapping) else []
    except (TypeError, ValueError):
        return []


def _found(names: Sequence[str], families: Mapping[str, Any], verb: str, chosen: str) -> str:
    """One sentence for families that were chosen in the same way: how is said once."""
    counts = [f"{families[name]['found']:,} of {families[name]['tested']:,} {name}" for name in names]
    words = f"{' and '.join(counts)} {verb} (q < {Q}{chosen})"
    halves = [
        f"{split['mean']:.3g} of {split['tested']:,}{f' {name}' if len(names) > 1 else ''} (none in "
        f"{split['splits'] - split['any']} of {split['splits']} splits, at most {split['most']:,})"
        for name in names
        if (split := families[name].get("null_split")) is not None
    ]
    if not halves:
        return words + "."
    return f"{words}; between random halves of the first side, where nothing differs, {' and '.join(halves)}."


def _too_few(record: Mapping[str, Any]) -> list[str]:
    """That so many cells or donors cannot show a difference, or only where many genes differ."""
    least, tested = record["smallest_p"], record["families"]["genes"]["tested"]
    n = " and ".join(f"{number:,}" for number in record["units"])
    if record["unit"] == "donors":
        return _few_donors(n, record.get("least_t"), tested)
    if least > Q:
        return [f"{n} {record['unit']} are too few: whatever the difference, p is {least:.2g} or more."]
    if least * tested <= Q:
        return []
    many = int(np.ceil(least * tested / Q))
    return [
        f"{n} {record['unit']} are few: p is {least:.1g} or more, so unless {many:,} of {tested:,} genes "
        "differ, none can be called different."
    ]


def _few_donors(n: str, least_t: float | None, tested: int) -> list[str]:
    """That few donors, or one that has most of the cells, show only what is many times its error."""
    if least_t is None or least_t < MANY_ERRORS:
        return []
    return [
        f"{n} donors cannot tell an effect from 0: to be told alone among {tested:,} genes, it must be "
        f"{least_t:,.0f} times its standard error; at least {_donors_needed(tested)}"
        f"{' on each side' if ' and ' in n else ''}, of equal size, are needed."
    ]


def _donors_needed(tested: int) -> int:
    """The fewest donors of equal size of which an effect of `MANY_ERRORS` errors is told alone."""
    return next(n for n in range(3, 1000) if stats.t.isf(Q / max(1, tested) / 2, n - 1) < MANY_ERRORS)

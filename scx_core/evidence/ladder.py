"""The ladder of claims: how far the evidence for one circuit goes, level by level.

1. exact account of the frozen model: the largest accounting error is within float32's limit, or, where a
   node's value nearly cancels and its rounding is large beside it, within it in float64;
2. predicts interventions in the real model: the circuit's gene effects rank measured knock-outs in unseen
   cells better than 0, and give the sign of the strongest more often than not; the strongest rival of the
   record (gradient × input, the place in the sentence, differential expression) is not certainly better;
3. sufficient and necessary against matched controls: its genes take more of the answer away than genes of the
   same ranks; its features keep, and take away, more than random ones of the same layers and activation. How
   much all of them keep is said ("partly" below 80%), and what genes chosen without a model take away;
4. stable over cells, ties, seeds, and donors and templates where there are several: the strongest genes are
   mostly the same in each;
5. holds in another study: two studies name the same genes, more than chance does;
6. agrees with measured perturbations or curated biology: more known markers than chance among its genes, and
   not fewer than among the most expressed ones, nor certainly fewer than differential expression finds; or
   the model's in-silico knock-outs with a measured screen,
   or pairs that circuits join with a curated network, above chance and above what needs no model. Several
   are several tests, and all are said.

A level is reached, not reached or not tested, and says with which figures, beside which rival. A circuit got
as far as the last level of which all lower ones are reached too. Levels 1 to 4 are about the model, 5 and 6
reach beyond it; none of them is a finding about cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from scipy import stats

from scx_core.circuits import Circuit

Status = Literal["reached", "not reached", "not tested"]
KEY = "ladder"  # in the provenance of a circuit
CLAIMS = (
    "exact account of the frozen model",
    "predicts interventions in the real model",
    "sufficient and necessary against matched controls",
    "stable over cells, ties, seeds, and donors and templates where there are several",
    "holds in another study",
    "agrees with measured perturbations or curated biology",
)
EXACT = 1e-4  # relative; method §5, float32
IN_FLOAT64 = "max_relative_error_float64"  # in a circuit's accounting, where float32 missed the limit
CERTAIN = 0.05  # q (or p) below which a difference counts
ASKED = 0.8  # share of the answer that a smallest circuit must keep
NO_MODEL = {
    "t-test": "differential expression (t-test)",
    "wilcoxon": "differential expression (Wilcoxon)",
    "expression": "the most expressed",
}
STABLE = 0.5  # mean Jaccard index of the twenty strongest genes: two thirds of them are shared


class Figure(NamedTuple):
    """One figure of a level: its 95% interval (None where there is none) over `n` units, and its rival with
    the rival's figure (None where the rival is a limit that stands in the words)."""

    what: str
    value: float
    low: float | None
    high: float | None
    n: int
    units: str
    rival: str
    beside: float | None


class Level(NamedTuple):
    """One level: its number (1 to 6), what it claims, its status, why in words, and the figures behind it."""

    number: int
    claim: str
    status: Status
    words: str
    figures: tuple[Figure, ...] = ()


class Ladder(NamedTuple):
    """All six levels, in their order."""

    levels: tuple[Level, ...]

    @property
    def got_as_far(self) -> int:
        """The last level of which all lower ones are reached as well; 0 for none."""
        far = 0
        for level in self.levels:
            if level.status != "reached":
                break
            far = level.number
        return far

    @property
    def words(self) -> str:
        """ "got as far as level 3 of 6 (sufficient and …); level 4 not reached; 5 not tested; level 6
        reached, but does not count: a lower level is open"."""
        far = self.got_as_far
        start = f"got as far as level {far} of 6 ({CLAIMS[far - 1]})" if far else "no level of 6 reached"
        rest = []
        for level in self.levels[far:]:
            open_below = ", but a lower one is open" if level.status == "reached" else ""
            rest.append(f"level {level.number} {level.status}{open_below}")
        return "; ".join([start, *rest])

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`; `ladder_from` reads it back."""
        levels = [
            one._asdict() | {"figures": [figure._asdict() for figure in one.figures]} for one in self.levels
        ]
        return {"got_as_far": self.got_as_far, "words": self.words, "levels": levels}


def ladder_from(data: Any) -> Ladder | None:
    """The ladder in what `to_json` made, from whoever wrote it; None where it is none."""
    try:
        levels = tuple(
            Level(
                int(one["number"]),
                CLAIMS[int(one["number"]) - 1],
                one["status"],
                str(one["words"]),
                tuple(Figure(**figure) for figure in one["figures"]),
            )
            for one in data["levels"]
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    ordered = [level.number for level in levels] == list(range(1, len(CLAIMS) + 1))
    known = all(level.status in get_args(Status) for level in levels)
    return Ladder(levels) if ordered and known else None


def with_ladder(circuit: Circuit, ladder: Ladder) -> Circuit:
    """The circuit whose provenance says how far its evidence goes: captions read it there."""
    return circuit._replace(provenance=circuit.provenance | {KEY: ladder.to_json()})


def ladder_words(circuit: Circuit) -> str:
    """How far the claim of a circuit got; what was not measured is said to be not tested. Empty where not
    even the account of the frozen model is stated."""
    found = ladder_from(circuit.provenance.get(KEY))
    if found is not None:
        return f"Ladder of claims: {found.words}"
    error = _accounting_error(circuit.accounting)
    if math.isnan(error):
        return ""
    if not error <= EXACT:
        return f"Ladder of claims: not even level 1 of 6 ({CLAIMS[0]}): the edges miss by {error:.1g}"
    return f"Ladder of claims: level 1 of 6 ({CLAIMS[0]}, to {error:.0e}); not tested beyond it"


def not_tested(number: int, why: str) -> Level:
    """A level that nothing was measured for."""
    return Level(number, CLAIMS[number - 1], "not tested", why)


def _accounting_error(accounting: Mapping[str, float]) -> float:
    """The largest relative error: in float64 where it was asked for, else as traced; nan where unknown."""
    return float(accounting.get(IN_FLOAT64, accounting.get("max_relative_error", math.nan)))


def accounts(accounting: Mapping[str, float], n: int) -> Level:
    """Level 1, from the accounting of a traced circuit of n cells."""
    error = _accounting_error(accounting)
    holds = error <= EXACT
    words = f"edges and bias add up to every node's value; the worst misses by {error:.1e} (limit {EXACT:g})"
    if IN_FLOAT64 in accounting:
        rounded = accounting["max_relative_error"]
        words += f" in float64; in float32 by {rounded:.1e}, of a value that nearly cancels"
    if not holds:
        words += "; where a value nearly cancels, float32's rounding alone may do this: float64 decides"
    figure = Figure("largest relative accounting error", error, None, None, n, "cells", "limit", EXACT)
    return Level(1, CLAIMS[0], "reached" if holds else "not reached", words, (figure,))


def predicts(found: Mapping[str, Any]) -> Level:
    """Level 2, from the JSON of `prediction.Prediction` with its `rivals` (`prediction.with_rivals`; without
    them gradient × input alone): the strongest of them is the one that must not be certainly ahead."""
    own, gradient = found["circuit"], found["gradient"]
    only = {"name": "gradient × input", **gradient, "ahead": found["ahead"], "p": found["p"]}
    rivals = found.get("rivals") or [only]
    rival = max(rivals, key=lambda one: one["spearman"]["mean"])
    units, n = found["units"], found["n"]
    rank, sign, ahead = own["spearman"], own["sign"], rival["ahead"]
    behind = ahead["mean"] < 0 and rival["p"] < CERTAIN
    ahead_of = ahead["low"] > 0 and rival["p"] < CERTAIN
    holds = rank["low"] > 0 and sign["low"] > 0.5 and not behind
    beside = "certainly behind" if behind else "ahead of" if ahead_of else "no certain difference from"
    words = (
        f"rank correlation with measured knock-outs {_span(rank)}, the sign of the {found['strongest']} "
        f"strongest right in {_span(sign)}; {beside} {rival['name']} ({_number(rival['spearman'])})"
    )
    if len(rivals) > 1:
        others = ", ".join(f"{one['name']} {_number(one['spearman'])}" for one in rivals if one is not rival)
        words += f", the strongest of {len(rivals)} rivals ({others})"
    figures = (
        _figure("rank correlation with knock-outs", rank, n, units, rival["name"], rival["spearman"]),
        _figure(f"sign of the {found['strongest']} strongest", sign, n, units, rival["name"], rival["sign"]),
    )
    return Level(2, CLAIMS[1], "reached" if holds else "not reached", words, figures)


def _number(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:.2f}".replace("-", "−")


def causes(rankings: Mapping[str, Any], curves: Mapping[str, Any] | None) -> Level:
    """Level 3, from the JSON of `TypeRankings` and of `Curves` (None: not measured)."""
    by = {one["name"]: one for one in rankings["rankings"]}
    joint, control = by["circuit"], by["random"]
    above = control["ahead"]["mean"] > 0 and control["q"] < CERTAIN
    n, units = rankings["n"], rankings["units"]
    parts = [
        (
            above,
            f"without its {len(joint['genes'])} genes the answer loses {_span(joint['drop'])} nats, "
            f"without genes of the same ranks {_span(control['drop'])} (q {control['q']:.2g})",
        )
    ]
    figures = [
        _figure("joint knock-out, nats", joint["drop"], n, units, "genes of the same ranks", control["drop"])
    ]
    if simple := _simplest(by):
        parts.append((True, simple))
    for one in _at_mean(curves):
        parts.append(
            (
                one["certain"],
                f"{one['way']} area {_span(one['area'])} against {_span(one['random'])} "
                f"of matched random features{_whole(one)}",
            )
        )
        rival = "random features, same layers and activation"
        figures.append(
            _figure(f"{one['way']} area", one["area"], curves["n"], curves["units"], rival, one["random"])  # type: ignore[index]
        )
    status: Status = "reached" if all(holds for holds, _ in parts) else "not reached"
    if curves is None and status == "reached":
        status = "not tested"
        parts.append((True, "sufficiency and necessity of its features were not measured"))
    words = "; ".join(text if holds else f"NOT: {text}" for holds, text in parts)
    return Level(3, CLAIMS[2], status, words, tuple(figures))


def _simplest(by: Mapping[str, Mapping[str, Any]]) -> str:
    """How the joint knock-out stands to that of the strongest ranking that needs no model, in words."""
    held = [by[name] for name in NO_MODEL if name in by]
    if not held:
        return ""
    rival = max(held, key=lambda one: one["drop"]["mean"])
    tested = f"{_number(by['circuit']['drop'])} against {_number(rival['drop'])}, q {rival['q']:.2g}"
    name = NO_MODEL[rival["name"]]
    if rival["q"] >= CERTAIN:
        return f"no certain difference from genes of {name}, which needs no model ({tested})"
    return f"{'more' if rival['ahead']['mean'] > 0 else 'LESS'} than genes of {name} ({tested})"


def _whole(curve: Mapping[str, Any]) -> str:
    """What all features of the circuit keep, or take away; "partly" below the share that is asked of a
    smallest circuit."""
    if not curve.get("points"):
        return ""
    last = curve["points"][-1]
    interval = f"{last['share']:.0%} [{last['low']:.0%}, {last['high']:.0%}]".replace("-", "−")
    verb = "keep" if curve["way"] == "sufficiency" else "take away"
    partly = (
        f", partly: {ASKED:.0%} is asked of a smallest circuit"
        if curve["certain"] and last["share"] < ASKED
        else ""
    )
    return f" (all {last['size']} features {verb} {interval}{partly})"


def _at_mean(curves: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The curves whose reference is the mean over other types."""
    return [] if curves is None else [one for one in curves["curves"] if one["reference"] == "mean"]


def holds_still(
    parts: Sequence[Mapping[str, Any]], required: Sequence[str] = ("cells", "ties", "transcoder seeds")
) -> Level:
    """Level 4, from the parts of `by_type.steadiness.parts_of`: what was varied, mean Jaccard index of the
    twenty strongest genes with its interval, and the index by chance; or why it was not asked."""
    asked = [one for one in parts if one["jaccard"] is not None]
    counted = [one for one in asked if one.get("counts", True)]
    failed = [one["what"] for one in counted if one["jaccard"]["mean"] < STABLE]
    missing = [one for one in parts if one["jaccard"] is None and one["what"] in required]
    status: Status = "not reached" if failed else "not tested" if missing else "reached"
    words = [f"{one['what']} {_span(one['jaccard'])} (by chance {one['chance']:.2f})" for one in counted]
    words += [f"{one['what']} {_span(one['jaccard'])} ({one['why']})" for one in asked if one not in counted]
    words += [f"{one['what']}: {one['why']}" for one in parts if one["jaccard"] is None]
    figures = tuple(
        _figure(
            f"Jaccard of the 20 strongest genes over {one['what']}",
            one["jaccard"],
            one["n"],
            one["units"],
            "effects dealt among neighbours",
            {"mean": one["chance"]},
        )
        for one in asked
    )
    text = f"Jaccard of the 20 strongest genes (wanted {STABLE:g}): " + "; ".join(words)
    return Level(4, CLAIMS[3], status, text, figures)


def repeats(found: Sequence[Mapping[str, Any]]) -> Level:
    """Level 5, from the overlaps of studies that `further` read (`shared` of the `top` strongest genes,
    `expected` and `p` against genes of the same level); the least p counts, times their number."""
    if not found:
        return not_tested(5, "no other study was given (scx evidence transfer measures it)")
    best = min(found, key=lambda one: one["p"])
    p = min(1.0, len(found) * best["p"])
    plain = best.get("differential")
    rival = "" if plain is None else f"; differential expression, without a model, shares {plain}"
    words = (
        f"{best['shared']} of the {best['top']} strongest genes in {best.get('first', 'one study')} are "
        f"those "
        f"in {best['second']} too, by chance {best['expected']:.1f} (p {p:.2g}){rival}"
    )
    chance = ("genes of the same level", best["expected"])
    figure = Figure("shared strongest genes", best["shared"], None, None, best["n"], "cells", *chance)
    return Level(5, CLAIMS[4], "reached" if p < CERTAIN else "not reached", words, (figure,))


class _Source(NamedTuple):
    """One thing that a circuit is held against beyond the model: its p (or q), whether it is above what
    simpler rivals reach, in words and as a figure."""

    p: float
    ahead: bool
    words: str
    figure: Figure


def agrees(
    markers: Mapping[str, Any] | None,
    perturbations: Sequence[Mapping[str, Any]] = (),
    networks: Sequence[Mapping[str, Any]] = (),
) -> Level:
    """Level 6, from `markers.marker_evidence` (None: no list), and from measured screens and curated networks
    that `further` read. One that holds is enough, with its p times the number of all that were asked."""
    sources = [] if markers is None else [_markers(markers)]
    sources += [_screen(one) for one in perturbations]
    asked = [one for one in networks if one["enough"]]
    sources += [_edges(one) for one in asked]
    silent = "; ".join(
        f"{one['says']}: too few hits by chance to say anything" for one in networks if not one["enough"]
    )
    if not sources:
        why = "no curated markers of this type, and no measured perturbations"
        return not_tested(6, f"{why}; {silent}" if silent else why)
    holds = [min(1.0, len(sources) * one.p) < CERTAIN and one.ahead for one in sources]
    words = [one.words if yes else f"NOT: {one.words}" for one, yes in zip(sources, holds, strict=True)]
    words = words if len(words) > 1 else [sources[0].words]
    text = "; ".join([*words, silent] if silent else words)
    status: Status = "reached" if any(holds) else "not reached"
    return Level(6, CLAIMS[5], status, text, tuple(one.figure for one in sources))


def _markers(found: Mapping[str, Any]) -> _Source:
    """More known markers than chance, than genes of the same ranks, and not fewer than the most expressed;
    nor certainly fewer than differential expression finds (Fisher's exact test)."""
    own, n = found["circuit"], found["genes"]
    rivals = {"most expressed": found["expressed"], "differential expression": found["differential"]}
    rival = max(rivals, key=lambda name: rivals[name])
    counts = [[own, n - own], [rivals[rival], n - rivals[rival]]]
    behind = float(stats.fisher_exact(counts, alternative="less").pvalue) < CERTAIN
    simpler = found["expressed"] > own or behind  # what needs no model says it as well
    words = (
        f"{own} of the {n} strongest genes are known markers; of the most expressed {found['expressed']}, "
        f"of differential expression's {found['differential']}, of genes of the same ranks "
        f"{found['random']:.1f}, by chance {found['chance']:.1f} (q {found['q']:.2g})"
    )
    if own <= rivals[rival]:
        words += f": no more than {rival}, which needs no model"
    low, high = found["interval"]
    figure = Figure("known markers, share", own / n, low, high, n, "genes", rival, rivals[rival] / n)
    return _Source(found["q"], own > found["random"] and not simpler, words, figure)


def _screen(found: Mapping[str, Any]) -> _Source:
    """In-silico knock-outs rank the measured changes above shuffled targets, and no rival is certainly ahead
    of them. It is about the model, whatever the type."""
    behind = [one["name"] for one in found["rivals"] if one["behind"]["high"] < 0]
    best = max(found["rivals"], key=lambda one: one["mean"])
    words = (
        f"measured perturbations ({found['data']}, {found['targets']} targets, all of the model): rank "
        f"correlation {_span(found['mean'])} (p {found['p']:.2g} against shuffled targets), "
        f"{best['name']} {best['mean']:.2f}"
    )
    name, n = "rank correlation with measured changes", found["targets"]
    figure = _figure(name, found["mean"], n, "targets", best["name"], {"mean": best["mean"]})
    return _Source(found["p"], found["mean"]["mean"] > 0 and not behind, words, figure)


def _edges(found: Mapping[str, Any]) -> _Source:
    """Pairs that circuits join, spelled-alike ones left out, are curated more often than over both nulls, and
    than pairs by co-expression."""
    rival = found["coexpression"] or 0.0
    words = (
        f"curated network ({found['relation']}, circuits of {found['types']} types together, pairs not "
        f"spelled alike): {found['hits']} of {found['pairs']} pairs, by chance {found['expected']:.1f} (fold "
        f"{found['fold']:.2f} [{found['low']:.2f}, {found['high']:.2f}], p {found['p']:.2g}), co-expression "
        f"fold {rival:.2f}"
    )
    chance = ("co-expression", rival)
    figure = Figure("fold of curated pairs", found["fold"], found["low"], found["high"], found["pairs"],
                    "pairs", *chance)  # fmt: skip
    return _Source(found["p"], found["fold"] > max(1.0, rival), words, figure)


def _figure(
    what: str, found: Mapping[str, Any], n: int, units: str, rival: str, beside: Mapping[str, Any]
) -> Figure:
    return Figure(what, found["mean"], found["low"], found["high"], n, units, rival, beside["mean"])


def _span(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:.2f} [{found['low']:.2f}, {found['high']:.2f}]".replace("-", "−")

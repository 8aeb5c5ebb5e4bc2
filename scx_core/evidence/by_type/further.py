"""Answers of other questions about the same circuit, from their JSON: which belong to it, and what they say.

| question | belongs where the same are | says something of |
|---|---|---|
| transfer | model, set; the type among its types | level 5, another study |
| perturbations | model | level 6, a measured screen |
| network | model, set; the type among its circuits | level 6, curated edges |
| stability | model, set, cells, type | level 4, prompts and model seeds among it |
| steer, redundancy | model, set, cells, type | the report |

An answer comes from a file that is named (the `--json` of its command), which is refused where it does not
belong, or from the runs folder, where only those that belong are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scx_core.circuits import Tracer
from scx_core.circuits.schema import Misfit
from scx_core.circuits.stability import trained_on
from scx_core.errors import ScxError
from scx_core.evidence.biology.agreement import IN_SILICO, WORDS
from scx_core.evidence.biology.network import CIRCUITS, COEXPRESSION, UNLIKE
from scx_core.evidence.by_type.record_shape import check_found
from scx_core.evidence.by_type.steadiness import parts_of
from scx_core.evidence.studies.top_overlap import LIKE_NAMES
from scx_core.runs import list_cached, read_json

QUESTIONS = ("transfer", "perturbations", "network", "stability", "steer", "redundancy")
OF_LADDER = ("transfer", "perturbations", "network", "stability")
_SAME_SET = ("transfer", "network", "stability", "steer", "redundancy")
_SAME_CELLS = ("stability", "steer", "redundancy")
EXPECTED_LEAST = 10  # hits by chance below which folds of a network say nothing


class Answer(NamedTuple):
    """What one question says of one type: `says` in words what was asked of what, `source` the name of the
    file, `found` the figures, as the ladder and the report read them."""

    question: str
    says: str
    source: str
    found: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        return self._asdict()


class _Refused(Exception):
    """Why an answer does not belong, in words that go on from the file's name."""


def answer_in(path: Path | str, tracer: Tracer, label: str) -> Answer | None:
    """What a named file says of this type; None where it is of this model and says nothing of the type.

    Raises ScxError, in one line, for a file that holds no such answer, or one about another model, set of
    transcoders or cells.
    """
    data, name = read_json(path), Path(path).name
    try:
        question, result = _recognised(data)
        return _belonging(question, result, tracer, label, name)
    except _Refused as why:
        remedy = f"Give the --json of `scx evidence` {', '.join(QUESTIONS)} with this model."
        raise ScxError(f"{name} {why}.", remedy) from None


def kept_answers(tracer: Tracer, label: str, runs: Path | None = None) -> list[Answer]:
    """All answers in the runs folder that belong to this type's circuit, the newest of a question first."""
    found = []
    for question in QUESTIONS:
        for held in sorted(list_cached(question, runs=runs), key=lambda one: -one.path.stat().st_mtime_ns):
            try:
                one = _belonging(question, held.result, tracer, label, f"{question}/{held.path.name}")
            except _Refused:
                continue
            if one is not None:
                found.append(one)
    return found


def answers_of(
    tracer: Tracer,
    label: str,
    files: Sequence[Path | str] = (),
    runs: Path | None = None,
    kept: bool = True,
) -> list[Answer]:
    """Those of named files first, then (`kept`) those of the runs folder; the same answer once."""
    named = [one for path in files if (one := answer_in(path, tracer, label)) is not None]
    rest = kept_answers(tracer, label, runs) if kept else []
    held = [(one.question, one.found) for one in named]
    return [*named, *(one for one in rest if (one.question, one.found) not in held)]


def _recognised(data: Any) -> tuple[str, dict[str, Any]]:
    """Which question a file answers: a kept result says so, of others the parts do."""
    if isinstance(data, Mapping) and {"question", "result"} <= set(data):
        data, asked = data["result"], str(data["question"])
        if asked in QUESTIONS and isinstance(data, Mapping):
            return asked, dict(data)
    parts = {
        "transfer": {"overlaps", "accuracy"},
        "perturbations": {"pools", "n_control"},
        "network": {"rows", "in_file"},
        "stability": {"axes"},
        "steer": {"doses", "mode"},
        "redundancy": {"takeover", "tables"},
    }
    if isinstance(data, Mapping):
        for question, keys in parts.items():
            if keys <= set(data):
                return question, dict(data)
        several = data.get("types")
        if isinstance(several, list) and all(isinstance(one, Mapping) and "axes" in one for one in several):
            return "stability", dict(data)
    raise _Refused("answers no question about a circuit")


def _belonging(
    question: str, result: Mapping[str, Any], tracer: Tracer, label: str, source: str
) -> Answer | None:
    try:
        if question == "stability" and "types" in result:
            of_type = [one for one in result["types"] if one["label"] == label]
            result = (of_type or result["types"])[0]
        about = result["provenance"]
        _check_same(question, about, tracer)
        if "label" in result and result["label"] != label:
            return None
        made = _READERS[question](result, label)
        if made is None:
            return None
        says, found = made
        if question == "stability":
            found["parts"] = [_counted(part, result, tracer) for part in found["parts"]]
        check_found(question, found)
        return Answer(question, says, source, found)
    except Misfit as misfit:
        raise _Refused(f"is damaged: {str(misfit)[:90]}") from misfit
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        raise _Refused(f"is damaged: it lacks {str(error)[:60]}") from error


def _check_same(question: str, about: Mapping[str, Any], tracer: Tracer) -> None:
    wanted = {"model": tracer.lm.fingerprint}
    if question in _SAME_SET:
        wanted["transcoders"] = tracer.transcoders.fingerprint
    if question in _SAME_CELLS:
        wanted["data"] = tracer.table.fingerprint
    words = {"model": "another model", "transcoders": "another set of transcoders", "data": "other cells"}
    for part, mark in wanted.items():
        if not mark or about[part]["fingerprint"] != mark:
            raise _Refused(f"is about {words[part]}")


Read = tuple[str, dict[str, Any]]


def _transfer(result: Mapping[str, Any], label: str) -> Read | None:
    """The overlap of genes of this type with the least p against genes of the same level, p multiplied by the
    number of pairs of studies (Bonferroni), and what differential expression shares of the same pair."""
    rows = [row for row in result["overlaps"] if (row["what"], row["label"]) == ("genes", label)]
    if not rows:
        return None
    best = min(rows, key=lambda row: row["p"][LIKE_NAMES])
    pair = (label, best["first"], best["second"])
    plain = [
        row["shared"]
        for row in result["overlaps"]
        if (row["label"], row["first"], row["second"]) == pair and row["what"] == "DE genes"
    ]
    names = sorted({row[end] for row in rows for end in ("first", "second")})
    found = {
        "first": best["first"],
        "second": best["second"],
        "shared": best["shared"],
        "top": best["top"],
        "expected": best["expected"][LIKE_NAMES],
        "p": min(1.0, len(rows) * best["p"][LIKE_NAMES]),
        "pairs": len(rows),
        "n": min(best["n_first"], best["n_second"]),
        "differential": plain[0] if plain else None,
        "common": list(best.get("common", ())),
    }
    return f"strongest genes in {', '.join(names)}", found


def _perturbations(result: Mapping[str, Any], label: str) -> Read | None:
    """The in-silico knock-out over all targets that can be read, beside what needs no model."""
    if not result["pools"]:
        return None
    pool = result["pools"][0]
    by = {row["predictor"]: row for row in pool["rows"]}
    own = by[IN_SILICO]
    if own["p"] is None:
        return None
    rivals = [
        {"name": WORDS[name], "mean": row["mean"]["mean"], "behind": row["behind"]}
        for name, row in by.items()
        if name in WORDS and name != IN_SILICO and row["behind"] is not None
    ]
    data = result["provenance"]["data"].get("name", "a screen")
    found = {
        "data": str(data),
        "targets": len(pool["targets"]),
        "mean": own["mean"],
        "p": own["p"],
        "same": own["same"],
        "signs": own["signs"],
        "rivals": rivals,
    }
    return f"{len(pool['targets'])} targets of {data}, {result['n_control']} control cells", found


def _network(result: Mapping[str, Any], label: str) -> Read | None:
    """Pairs of genes that circuits join, of those not spelled alike, beside co-expression; the relation and
    number of pairs with the least p among those with enough hits by chance."""
    if label not in result["circuits"]:
        return None
    by = {(row["relation"], row["way"], row["asked"]): row for row in result["rows"]}
    asked = [row for (_, way, _), row in by.items() if way == CIRCUITS + UNLIKE]
    enough = [row for row in asked if (row["expected"] or 0.0) >= EXPECTED_LEAST]
    said = f"{result['in_file']} curated edges, circuits of {len(result['circuits'])} types"
    if not enough:
        most = max((row["expected"] or 0.0 for row in asked), default=0.0)
        return said, {"enough": False, "expected": most, "rows": asked}
    best = min(enough, key=lambda row: row["p"])
    rival = by[best["relation"], COEXPRESSION + UNLIKE, best["asked"]]
    found = {
        **{key: best[key] for key in ("relation", "pairs", "hits", "expected", "fold", "low", "high")},
        "enough": True,
        "p": min(1.0, len(enough) * max(best["p"], best["graph_p"] or 0.0)),
        "graph_fold": best["graph_fold"],
        "coexpression": rival["fold"],
        "types": len(result["circuits"]),
        "rows": asked,
    }
    return said, found


def _stability(result: Mapping[str, Any], label: str) -> Read | None:
    """What was varied, as parts of level 4: Jaccard's index of the twenty strongest genes."""
    parts = parts_of(result)
    return f"{', '.join(part['what'] for part in parts)}; {result['n_cells']} cells", {"parts": parts}


def _counted(part: dict[str, Any], result: Mapping[str, Any], tracer: Tracer) -> dict[str, Any]:
    """Prompts that the model was not trained on are said and do not count: it cannot read them."""
    if part["what"] != "prompts":
        return part
    words = next(axis["words"] for axis in result["axes"] if axis["name"] == "prompts")
    if set(words.split("; ")) <= set(trained_on(tracer.lm)):
        return part
    return part | {"counts": False, "why": "wordings that the model was not trained on: not counted"}


def _steer(result: Mapping[str, Any], label: str) -> Read | None:
    keys = (
        *("mode", "where", "source", "target", "unit", "answer", "n", "units", "features"),
        *("before", "doses", "draws"),
    )
    said = f"{result['mode']} {len(result['features'])} features, {result['n']} cells"
    return said, {key: result[key] for key in keys}


def _redundancy(result: Mapping[str, Any], label: str) -> Read | None:
    keys = (
        *("answer", "target", "n", "units", "tables", "risen", "takeover", "random", "random_least"),
        *("random_most", "ahead", "p", "draws"),
    )
    names = result["tables"]["features"]["names"]
    return f"{len(names)} strongest features, {result['n']} cells", {key: result[key] for key in keys}


_READERS: dict[str, Callable[[Mapping[str, Any], str], Read | None]] = {
    "transfer": _transfer,
    "perturbations": _perturbations,
    "network": _network,
    "stability": _stability,
    "steer": _steer,
    "redundancy": _redundancy,
}

"""Training runs side by side: what was asked, what it cost, how good the set is, and which runs compare.

Figures are those written beside the finished set (held-out cells, every MLP replaced, method §3), else the
last ones that the training measured on a few held-out cells; `measured` says which.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from scx_core.errors import ScxError
from scx_core.runs import RunFolder, from_dict, list_runs, provenance, read_json
from scx_core.training.config import TranscoderConfig
from scx_core.validation.result import FILE

HELD_OUT, TRAINING = "held-out", "while training"


class RunRow(NamedTuple):
    """One run. What is not known (yet) is nan or "".

    `kind` is the gate, `form` what it gates: transcoder, sae (reads the MLP's output) or cross-layer.
    `setting` is what sparsity was asked for: k, a wanted L0, or the penalty's weight λ. `tokens` are those
    of the optimisation steps, `seconds` those of the steps and of what lies between them; a run that does not
    log them has them estimated, the tuning at the end left out, from its steps, its tokens a second and the
    mean length of its held-out cells. `l0`
    (active features a token), `fvu` and `dead` are means of the layers; `kl` is in nats a token; `cells` are
    those that were measured on.
    `model` and `data` are the first characters of fingerprints. `comparable` is False where figures cannot
    be held against the reference run's, and `why_not` says why.
    """

    run: str
    state: str
    kind: str = ""
    setting: str = ""
    form: str = "transcoder"
    features: float = math.nan
    skip: bool = False
    steps: float = math.nan
    tokens: float = math.nan
    seconds: float = math.nan
    l0: float = math.nan
    fvu: float = math.nan
    ce_recovered: float = math.nan
    kl: float = math.nan
    dead: float = math.nan
    label_agreement: float = math.nan
    measured: str = ""
    cells: float = math.nan
    model: str = ""
    data: str = ""
    comparable: bool = True
    why_not: str = ""
    folder: str = ""


def trainings(runs: Iterable[RunFolder]) -> list[RunFolder]:
    """The trainings of transcoders among `runs`, those inside builds too; other runs are left out."""
    found: list[RunFolder] = []
    for run in runs:
        inside = list_runs(run.path) if run.kind == "build" else [run]
        found += [one for one in inside if one.kind == "train"]
    return found


def compare_runs(runs: Sequence[RunFolder], reference: RunFolder | None = None) -> pd.DataFrame:
    """One row a run, with the columns of `RunRow`, in the order given.

    Runs compare when they were trained on the model, the cells, the held-out cells and the sentences of
    `reference` (default: the first run that can be read). A run that cannot be read stays in the table and
    says so. Raises ScxError when a run is not a training of transcoders, or there is none.
    """
    for run in runs:
        if run.kind != "train":
            raise ScxError(f"The run {run.name} is of the kind {run.kind}.", "Only trainings are compared.")
    if not runs:
        raise ScxError("There is no training of transcoders to compare.", "Train a set first.")
    against = next(filter(None, map(_readable, [reference] if reference else runs)), {})
    rows = [_row(run, against) for run in runs]
    return pd.DataFrame(rows, columns=list(RunRow._fields))


def comparison_provenance(runs: Sequence[RunFolder], reference: RunFolder | None = None) -> dict[str, Any]:
    """What a comparison is made of: the reference's model and cells, and every run's own record."""
    first = (reference or runs[0]).provenance
    return provenance(
        data=first.get("data"),
        model=first.get("model"),
        runs=[{"name": name_of(run), "provenance": run.provenance} for run in runs],
    )


def name_of(run: RunFolder) -> str:
    """A run's name; of a training inside a build, with the build's in front."""
    inside = (run.path.parent / "run.json").exists()
    return f"{run.path.parent.name}/{run.name}" if inside else run.name


def _row(run: RunFolder, against: Mapping[str, Any]) -> RunRow:
    try:
        return _whole_row(run, against)
    except (ScxError, KeyError, TypeError, AttributeError, ValueError) as error:
        # One damaged run must not hide the others; files may hold anything.
        why = error.problem if isinstance(error, ScxError) else f"its files cannot be read ({error})"
        return RunRow(name_of(run), "damaged", comparable=False, why_not=why, folder=str(run.path))


def _whole_row(run: RunFolder, against: Mapping[str, Any]) -> RunRow:
    config, records, status = run.config, run.metrics(), run.status()
    beside = run.path / "transcoders" / "scx.json"
    made = read_json(beside) if beside.exists() else {}
    coder, train, known = config["transcoder"], config["train"], run.provenance
    why_not = _differences(_identity(run), against)
    row = RunRow(
        run=name_of(run),
        state=status.state,
        kind=str(coder["kind"]),
        form=from_dict(TranscoderConfig, coder).form,
        setting=setting(coder),
        features=float(made.get("n_features", math.nan)),
        skip=bool(coder.get("skip")),
        steps=float(max((record.get("step", 0) for record in records), default=0)),
        label_agreement=_label_agreement(run, known),
        model=_mark(known.get("model")),
        data=_mark(known.get("data")),
        comparable=not why_not,
        why_not=", ".join(why_not),
        folder=str(run.path),
    )
    # tokens read and seconds taken: as logged, else estimated
    finished = made.get("metrics", {})
    logged: Mapping[str, Any] = next((r for r in reversed(records) if "tokens" in r), {})
    tokens, seconds = logged.get("tokens"), logged.get("seconds")
    if tokens is None and finished:
        steps = min(row.steps, train["steps"])  # the speed of tuning is not logged
        tokens = steps * train["cells_per_batch"] * finished["tokens"] / finished["cells"]
    speeds = [record["tokens_per_second"] for record in records if record.get("tokens_per_second")]
    if seconds is None and tokens is not None and speeds:
        seconds = tokens / statistics.harmonic_mean(speeds)
    row = row._replace(
        tokens=math.nan if tokens is None else float(round(tokens)),
        seconds=math.nan if seconds is None else float(seconds),
    )
    return row._replace(**_figures(made.get("metrics"), records, train))


def setting(coder: Mapping[str, Any]) -> str:
    """What sparsity was asked for, of a transcoder's configuration: "k 15", "L0 8" or "λ 0.00014"."""
    if coder["kind"] in ("topk", "batchtopk"):
        return f"k {coder['k']:g}"
    if coder.get("target_l0"):
        return f"L0 {coder['target_l0']:g}"
    return f"λ {coder['l0' if coder['kind'] == 'jumprelu' else 'l1']:g}"


def _figures(
    finished: Mapping[str, Any] | None, records: Sequence[Mapping[str, Any]], train: Mapping[str, Any]
) -> dict[str, Any]:
    """Figures of the finished set, else the last of the training."""
    if finished:
        layers = finished["per_layer"]
        means = {key: statistics.fmean(layer[key] for layer in layers) for key in ("l0", "fvu", "dead")}
        whole = {key: float(finished[key]) for key in ("ce_recovered", "kl")}
        return {**means, **whole, "measured": HELD_OUT, "cells": float(finished["cells"])}
    last = next((record for record in reversed(records) if record.get("ce_recovered") is not None), None)
    if last is None:
        return {}
    # While all layers are tuned together, at the end, no record has these.
    layers = next((record for record in reversed(records) if "l0" in record), last)
    means = {key: statistics.fmean(layers[key]) for key in ("l0", "fvu", "dead")}
    whole = {key: float(last[key]) for key in ("ce_recovered", "kl")}
    return {**means, **whole, "measured": TRAINING, "cells": float(train["evaluate_cells"])}


def _label_agreement(run: RunFolder, known: Mapping[str, Any]) -> float:
    """Of the validation table that lies with the run, where it is about the run's model and cells."""
    preset = run.name.removeprefix("train-")
    places = (run.path / "transcoders" / FILE, run.path / FILE, run.path.parent / f"validation-{preset}.json")
    for path in filter(Path.exists, places):
        table = read_json(path)
        about = table["provenance"]
        if all(_fingerprint(about.get(part)) == _fingerprint(known.get(part)) for part in ("model", "data")):
            return float(table["label_agreement"])
    return math.nan


def _identity(run: RunFolder) -> dict[str, Any]:
    """What must be equal for figures to compare."""
    split = run.path / "split.json"
    return {
        "model": _fingerprint(run.provenance.get("model")),
        "cells": _fingerprint(run.provenance.get("data")),
        "held-out cells": sorted(read_json(split).get("held_out", [])) if split.exists() else None,
        "sentences": run.config.get("sentences"),
    }


def _readable(run: RunFolder) -> dict[str, Any] | None:
    try:
        return _identity(run)
    except (ScxError, AttributeError, TypeError):
        return None


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    differing = [what for what in other if one[what] != other[what]]
    if "cells" in differing and "held-out cells" in differing:
        differing.remove("held-out cells")  # of course
    return [f"{'another' if what == 'model' else 'other'} {what}" for what in differing]


def _fingerprint(thing: Any) -> str:
    return str(thing.get("fingerprint", "")) if isinstance(thing, Mapping) else ""


def _mark(thing: Any) -> str:
    return _fingerprint(thing)[:12]

"""The validation table (method §3) as plain numbers, written as JSON and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from scx_core.errors import ScxError
from scx_core.runs import read_json
from scx_core.statistics.intervals import Interval
from scx_core.transcoders import Form

FORMAT = 2  # of validation.json: 1 had no baselines and no intervals


class LayerRow(NamedTuple):
    """One layer. `ce`, `ce_zero`, `kl`, `ce_recovered` with only this layer's MLP replaced (nan when that was
    not asked for); `fvu`, `l0`, `dead`, `prompt_mass`, `gene_features` on the original model's activations.

    `prompt_mass` is the share of activation mass on prompt words and punctuation (position 0 left out),
    `gene_features` the share of firing features with most of their mass on genes.
    """

    layer: int
    ce: float
    ce_zero: float
    kl: float
    ce_recovered: float
    fvu: float
    l0: float
    dead: float
    prompt_mass: float
    gene_features: float


class ClassRow(NamedTuple):
    """One token class. Losses are of predicting such a token, `l0` of reading one (mean of the layers)."""

    n_tokens: int
    ce_orig: float
    ce_transcoder: float
    ce_zero: float
    ce_mean: float
    ce_recovered: float
    kl: float
    l0: float


class Confusion(NamedTuple):
    """Held-out cells by true label (rows) and predicted label (columns), both in the order of `labels`."""

    labels: tuple[str, ...]
    original: tuple[tuple[int, ...], ...]
    transcoder: tuple[tuple[int, ...], ...]


class BaselineRow(NamedTuple):
    """A stand-in without features (`baselines.BASELINES`), measured as the transcoders are.

    `intervals` are 95%, by the name of the figure: Wilson's for shares of cells, else a bootstrap over cells
    (or donors).
    """

    key: str
    name: str
    ce: float
    ce_recovered: float
    kl: float
    label_accuracy: float
    label_agreement: float
    balanced_accuracy: float
    intervals: dict[str, Interval]


class AddedByFeatures(NamedTuple):
    """What the features add over the best stand-in without features: that of the highest CE recovered.

    `won_back` is the share of the loss that this baseline leaves which the transcoders win back, (CE baseline
    − CE transcoders) / (CE baseline − CE original). `agreement_gain` is the transcoders' label agreement
    less the highest of any baseline (`labels_by`); `accuracy_gain` their label accuracy less that with every
    feature at its mean. Intervals are 95%, paired over the same cells. `needed` is the rule's answer
    (`warnings.Thresholds`): "yes", "partly" or "no".
    """

    best: str
    ce_recovered: float
    won_back: float
    won_back_interval: Interval
    labels_by: str
    agreement: float
    agreement_gain: float
    agreement_gain_interval: Interval
    accuracy_at_mean: float
    accuracy_gain: float
    accuracy_gain_interval: Interval
    needed: str


class Logistic(NamedTuple):
    """Logistic regression on the table's genes, fitted on `n_train` training cells, on the same test cells.

    `ahead` is the model's accuracy less that of the regression, with its paired interval: the model wins only
    where all of it is above 0.
    """

    n_train: int
    n_genes: int
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    balanced_interval: Interval
    ahead: float
    ahead_interval: Interval


class Caution(NamedTuple):
    """A warning in plain words: which sign was seen, in which layers, and what to do about it."""

    sign: str
    layers: tuple[int, ...]
    text: str
    remedy: str


class Validation(NamedTuple):
    """How well a transcoder set stands in for the MLPs of a model on held-out cells (method §3).

    All over the `n_tokens` predicted tokens of prompt + true answer + end-of-text, every MLP replaced at
    once, in nats, never clipped. `ce_mean` replaces each MLP's output by its mean over these same tokens.
    `fvu` and `l0` are means of the layers, `dead` is the share of all features that were never active on the
    `n_tokens`, `live_share` of those that fire more often than once in 10,000 tokens; these four are taken on
    the original model's activations, the ones that a trace freezes. `form` says what stands in: transcoders,
    SAEs (given each MLP's output) or cross-layer transcoders. Undefined ratios are nan (null in JSON).

    `intervals` are 95%, by the figure's name: Wilson's for accuracies and the agreement, else a bootstrap
    over the test cells, or over whole donors where there are (`drawn_over`). Balanced accuracies count each
    type the same. `baselines`, `added` and `logistic` need training cells and are empty without; `split` says
    which cells were trained, chosen and tested on. `format` is that of the JSON.
    """

    n_cells: int
    n_tokens: int
    ce_orig: float
    ce_transcoder: float
    ce_zero: float
    ce_mean: float
    ce_recovered: float
    kl: float
    l0: float
    fvu: float
    dead: float
    live_share: float
    n_features: int
    label_accuracy_orig: float
    label_accuracy_transcoder: float
    label_agreement: float
    per_layer: tuple[LayerRow, ...]
    by_token_class: dict[str, ClassRow]
    confusion: Confusion
    warnings: tuple[Caution, ...]
    provenance: dict[str, Any]
    form: Form = "transcoder"
    balanced_accuracy_orig: float = math.nan
    balanced_accuracy_transcoder: float = math.nan
    intervals: dict[str, Interval] = {}  # noqa: RUF012 (never written to)
    drawn_over: str = ""
    baselines: tuple[BaselineRow, ...] = ()
    added: AddedByFeatures | None = None
    logistic: Logistic | None = None
    split: str = ""
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers; nan becomes None, because JSON has no nan."""
        return plain(self)


def plain(value: Any) -> Any:
    """Named tuples become dicts, tuples lists, nan None: what JSON can hold."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


FILE = "validation.json"  # beside a set that was made by a build


def from_json(record: Mapping[str, Any]) -> Validation:
    """The table that `Validation.to_json` wrote, now or before there were baselines (format 1); null becomes
    nan. KeyError or TypeError if it is none."""
    rest: dict[str, Any] = {
        key: math.nan if value is None else value
        for key, value in record.items()
        if key in Validation._fields
    }
    tables = [tuple(map(tuple, record["confusion"][name])) for name in ("original", "transcoder")]
    rest["confusion"] = Confusion(tuple(record["confusion"]["labels"]), *tables)
    rest["per_layer"] = tuple(_read(LayerRow, row) for row in record["per_layer"])
    rest["by_token_class"] = {name: _read(ClassRow, row) for name, row in record["by_token_class"].items()}
    rest["warnings"] = tuple(
        Caution(row["sign"], tuple(row["layers"]), row["text"], row["remedy"]) for row in record["warnings"]
    )
    rest["format"] = record.get("format", 1)
    rest["intervals"] = _value(record.get("intervals", {}))
    rest["baselines"] = tuple(_read(BaselineRow, row) for row in record.get("baselines", []))
    for name, kind in (("added", AddedByFeatures), ("logistic", Logistic)):
        rest[name] = None if record.get(name) is None else _read(kind, record[name])
    return Validation(**rest)


def validation_beside(folder: Path | None, fingerprints: Mapping[str, str]) -> Validation | None:
    """The table that lies beside a set, when it is about this very data, model and set; else None.

    `fingerprints` are those of "data", "model" and "transcoders". Raises ScxError when the file is damaged.
    """
    path = folder / FILE if folder is not None else None
    if path is None or not path.exists():
        return None
    try:
        found = from_json(read_json(path))
        then = {key: found.provenance[key]["fingerprint"] for key in fingerprints}
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"{path} holds no validation table ({error})."
        raise ScxError(problem, "Delete it and measure anew.") from error
    return found if then == dict(fingerprints) else None


def _read(kind: Any, row: Mapping[str, Any]) -> Any:
    """A named tuple of this kind, of the dict that `plain` made of it."""
    return kind(**{key: _value(value) for key, value in row.items()})


def _value(value: Any) -> Any:
    """A number, an interval, or a dict of intervals; null becomes nan."""
    if isinstance(value, Mapping):
        found = {name: _value(end) for name, end in value.items()}
        return Interval(**found) if set(found) == {"low", "high"} else found
    return math.nan if value is None else value

"""The validation table (method §3) as plain numbers, written as JSON and read back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.runs import read_json
from scx_core.runs.files import check_object
from scx_core.statistics.intervals import Interval
from scx_core.transcoders import Form

FORMAT = 2  # of validation.json: 1 had no baselines and no intervals


class LayerRow(NamedTuple):
    """One layer. `ce`, `ce_zero`, `kl`, `ce_recovered` with only this layer's MLP replaced (nan when that was
    not asked for); `fvu`, `l0`, `dead`, `prompt_mass`, `gene_features` on the original model's activations.

    `prompt_mass` is the share of activation mass on prompt words and punctuation (position 0 left out),
    `gene_features` the share of firing features with most of their mass on genes. `mark` is a key of `MARKS`.
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
    mark: str = ""


ABOVE_ONE, NO_LOSS = "above 1", "no loss"
MARKS = {
    ABOVE_ONE: "above 1: with this layer's stand-in alone these cells are predicted a little better than by "
    "the model itself. That says that the stand-in costs nothing here, not that it is better: it may leave "
    "out what the MLP gets wrong on these cells, and other cells may decide otherwise.",
    NO_LOSS: "no loss: without this layer's MLP these cells are predicted no worse, so that there is no loss "
    "that a stand-in could win back, and CE recovered has no meaning.",
}


def layer_mark(ce_zero: float, ce: float, ce_orig: float) -> str:
    """What is odd about one layer's CE recovered: a key of `MARKS`, "" for nothing (also where it is nan)."""
    if ce_zero <= ce_orig:
        return NO_LOSS
    return ABOVE_ONE if ce < ce_orig else ""


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

    @property
    def one_answer(self) -> float:
        """Share of the cells that are named rightly by the commonest type's name for every cell."""
        counts = [sum(row) for row in self.original]
        return max(counts, default=0) / max(1, sum(counts))


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


@shown
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
    which cells were trained, chosen and tested on. `format` is that of the JSON. `layer_cells` and
    `layer_tokens` are those on which each layer was replaced alone: 0 where none was, or in a table that is
    older than the count (then it was all cells). `fit_cells`: training cells that the baselines were fitted
    on.
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
    layer_cells: int = 0
    layer_tokens: int = 0
    fit_cells: int = 0

    def __repr__(self) -> str:
        return (
            f"<Validation of {counted(self.n_cells, 'held-out cell')}: CE recovered {self.ce_recovered:.3f}, "
            f"KL {self.kl:.3f} nats, labels kept {self.label_agreement:.3f}, L0 {self.l0:.1f}>"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers; nan becomes None, because JSON has no nan."""
        return plain(self)

    @property
    def layer_words(self) -> str:
        """On what each layer was replaced alone, and what its marks mean, in a sentence or two; "" where it
        was not measured."""
        return layer_words(self.n_cells, self.layer_cells, [(row.ce, row.mark) for row in self.per_layer])


def layer_words(n_cells: int, layer_cells: int, rows: Sequence[tuple[float | None, str]]) -> str:
    """As `Validation.layer_words`, of each row's CE and mark."""
    if all(ce is None or math.isnan(ce) for ce, _ in rows):
        return ""
    n = layer_cells or n_cells
    some = f"a sample of {n:,} of the {n_cells:,}" if n < n_cells else f"all {n_cells:,}"
    marks = {mark: [k for k, (_, own) in enumerate(rows) if own == mark] for mark in MARKS}
    words = [
        f"CE and KL of a layer: it alone replaced, on {some} test cells; FVU, L0, dead and shares of "
        "activation: on all of them."
    ]
    words += [
        f"Layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))} {MARKS[mark]}"
        for mark, layers in marks.items()
        if layers
    ]
    return " ".join(words)


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


_NUMBER = (int, float, type(None))
_PLAIN = {int: int, float: _NUMBER, str: str}
_STATED = {"name": (str, type(None)), "fingerprint": (str, type(None))}


def _kinds(table: Any) -> dict[str, Any]:
    """What JSON holds for the plain fields of a named tuple."""
    return {name: _PLAIN[hint] for name, hint in get_type_hints(table).items() if hint in _PLAIN}


def _all_kinds() -> dict[str, Any]:
    table = [[int]]
    return _kinds(Validation) | {
        "form": str,
        "confusion": {"labels": [str], "original": table, "transcoder": table},
        "per_layer": [_kinds(LayerRow)],
        "by_token_class": {},
        "warnings": [{"sign": str, "layers": [int], "text": str, "remedy": str}],
        "baselines": [_kinds(BaselineRow)],
        "intervals": {},
        "provenance": dict.fromkeys(("data", "model", "transcoders"), _STATED),
    }


def from_json(record: Mapping[str, Any], name: str = "The record") -> Validation:
    """The table that `Validation.to_json` wrote, now or before there were baselines (format 1); null becomes
    nan. Raises ScxError, naming it, if it is none: it may come from anywhere."""
    checked = check_object(record, _all_kinds(), name)
    try:
        found = _from_json(checked, name)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"{name} holds no validation table ({str(error)[:80]})."
        raise ScxError(problem, "Delete it and measure anew.") from error
    n = len(found.confusion.labels)
    if any([len(row) for row in table] != [n] * n for table in found.confusion[1:]):
        raise ScxError(f"{name}: the confusion table is not {n} × {n}.", "Delete it and measure anew.")
    return found


def _from_json(record: Mapping[str, Any], name: str) -> Validation:
    rest: dict[str, Any] = {
        key: math.nan if value is None else value
        for key, value in record.items()
        if key in Validation._fields
    }
    tables = [tuple(map(tuple, record["confusion"][name])) for name in ("original", "transcoder")]
    rest["confusion"] = Confusion(tuple(record["confusion"]["labels"]), *tables)
    rest["per_layer"] = tuple(_read(LayerRow, row) for row in record["per_layer"])
    rest["by_token_class"] = {
        token_class: _read(ClassRow, check_object(row, _kinds(ClassRow), name))
        for token_class, row in record["by_token_class"].items()
    }
    rest["warnings"] = tuple(
        Caution(row["sign"], tuple(row["layers"]), row["text"], row["remedy"]) for row in record["warnings"]
    )
    rest["format"] = record.get("format", 1)
    rest["intervals"] = _value(record.get("intervals", {}))
    rest["baselines"] = tuple(_read(BaselineRow, row) for row in record.get("baselines", []))
    for key, kind in (("added", AddedByFeatures), ("logistic", Logistic)):
        given = record.get(key)
        rest[key] = None if given is None else _read(kind, check_object(given, _kinds(kind), name))
    return Validation(**rest)


def validation_beside(folder: Path | None, fingerprints: Mapping[str, str]) -> Validation | None:
    """The table that lies beside a set, when it is about this very data, model and set; else None.

    `fingerprints` are those of "data", "model" and "transcoders". Raises ScxError when the file is damaged.
    """
    path = folder / FILE if folder is not None else None
    if path is None or not path.exists():
        return None
    try:
        found = from_json(read_json(path), str(path))
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
        if set(value) == {"low", "high"}:
            check_object(value, {"low": _NUMBER, "high": _NUMBER}, "an interval")
        found = {name: _value(end) for name, end in value.items()}
        return Interval(**found) if set(found) == {"low", "high"} else found
    return math.nan if value is None else value

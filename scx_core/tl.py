"""Tools in a notebook, in scanpy's manner: train transcoders, measure them, trace circuits, test them.

Every function takes cells (AnnData object, path, "embedded", CellTable: `scx.pp.read_cells`), a model and a
set of transcoders by name, folder or object, and opens what is not open yet. Where several questions are
asked of the same three, `tracer` puts them together once, and is given in the place of the cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from scx_core.cells.choices import as_names
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, Tracer, make_tracer
from scx_core.errors import ScxError
from scx_core.pp import Cells, Model, load_model, read_cells
from scx_core.runs.files import is_there
from scx_core.runs.progress import watched
from scx_core.transcoders import CrossLayerSet, TranscoderSet, load_set
from scx_core.validation.standing import standing_of

if TYPE_CHECKING:
    import anndata

    from scx_core.atlas import Atlas
    from scx_core.circuits.difference import Difference
    from scx_core.evidence.by_type.record import TypeEvidence
    from scx_core.evidence.curves import Curves
    from scx_core.evidence.feature_edits import FeatureEdits
    from scx_core.evidence.knockouts.gene_lists import GeneLists
    from scx_core.evidence.knockouts.switch_off import SwitchedOff
    from scx_core.evidence.null_rates import NullRates
    from scx_core.evidence.redundancy import Redundancy
    from scx_core.evidence.rivals.rivals import Rivals
    from scx_core.evidence.smallest.smallest_circuit import Smallest
    from scx_core.evidence.stability import Stability
    from scx_core.validation import Validation

Transcoders: TypeAlias = "TranscoderSet | str | Path"
CellsOrTracer: TypeAlias = "Cells | Tracer"

IN_MEMORY = "These cells have no file: a copy of cells that were trained on counts as new here."

__all__ = [
    "annotate", "atlas", "compare_rivals", "consensus", "difference", "edit_features", "edit_genes",
    "evidence", "gene_effects", "knock_out", "load_transcoders", "null_rates", "predict", "redundancy",
    "share", "smallest_circuit", "stability", "store", "stored", "sufficiency_necessity", "switch_off",
    "trace_cell", "tracer", "train_transcoders", "validate",
]  # fmt: skip


def load_transcoders(source: Transcoders = "embedded", *, model: Model | None = None) -> TranscoderSet:
    """Load a set of transcoders, one for each MLP of a model.

    Parameters
    ----------
    source
        Folder of a trained set (ours, or the layout of circuit-tracer, sparsify or SAELens), "embedded",
        "embedded-paper" or "planted". A loaded set comes back as it is.
    model
        The model that it belongs to: the set goes to its device, in its precision (default: float32 on the
        processor).

    Returns
    -------
    TranscoderSet
        `layers[l]` is the transcoder of MLP l: W_enc_Fd, W_dec_Fd [F, d], b_enc_F [F], b_dec_d [d].

    Raises
    ------
    ScxError
        A layer is missing or broken.

    References
    ----------
    docs/method.md §2; Dunefsky et al. 2024, arXiv 2406.11944.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.load_transcoders("embedded").kind
    'jumprelu'
    """
    if isinstance(source, TranscoderSet | CrossLayerSet):
        return source
    if model is None:
        return load_set(source)
    lm = load_model(model)
    return load_set(source, lm.device, lm.dtype)


def train_transcoders(
    cells: Cells = "embedded",
    *,
    model: Model = "embedded",
    preset: str = "recommended",
    out: str | Path | None = None,
    **settings: Any,
) -> TranscoderSet:
    """Train transcoders for every MLP of a model on these cells.

    Parameters
    ----------
    cells
        As for `scx.pp.read_cells`.
    model
        As for `scx.pp.load_model`.
    preset
        "recommended" (BatchTopK, tuned together at the end), "paper" (ReLU with an L1 penalty) or "quick".
    out
        Folder in which the run's own folder is made (default: $SCX_RUNS, else runs/). A run of cells
        that are a file can be resumed from there with `scx train --run`.
    **settings
        Fields of `TranscoderConfig` (kind, k, expansion, …) and `TrainConfig` (steps, cells_per_batch,
        learning_rate, seed, …) in place of the preset's.

    Returns
    -------
    TranscoderSet
        The finished set; `folder` is where it lies, `meta["metrics"]` its figures on held-out cells.

    Raises
    ------
    ScxError
        A setting does not exist or cannot be, or the loss is not a number.
    KeyboardInterrupt
        The training was stopped; its last checkpoint is kept.

    References
    ----------
    docs/method.md §2; BatchTopK arXiv 2412.06410, JumpReLU arXiv 2407.14435, AuxK arXiv 2406.04093.

    Examples
    --------
    >>> import scx_core as scx
    >>> few = dict(steps=1, cells_per_batch=2, expansion=2, split_by="random", held_out=0.01, choose=0.0)
    >>> scx.tl.train_transcoders(preset="quick", calibration_cells=2, **few).form
    'transcoder'
    """
    from scx_core.runs import runs_root
    from scx_core.training import PRESETS, TrainConfig, TrainingJob, TranscoderConfig, new_run, train

    if preset not in PRESETS:
        raise ScxError(f"There is no preset {preset!r}.", f"Presets: {', '.join(PRESETS)}.")
    _check(
        settings, [*TranscoderConfig.__dataclass_fields__, *TrainConfig.__dataclass_fields__], "A training"
    )
    table, lm, base = read_cells(cells), load_model(model), PRESETS[preset]
    transcoder = replace(base.transcoder, **_fields(settings, TranscoderConfig))
    training = replace(base.train, **_fields(settings, TrainConfig))
    job = TrainingJob(
        sentences=lm.sentence_config,
        model=_absolute(lm.name),
        data=_absolute(cells) if isinstance(cells, str | Path) else str(table.path or table.name),
        device=str(lm.device),
        cells=table.choices,
        transcoder=transcoder,
        train=training,
    )
    run = new_run(out if out is not None else runs_root(), job, lm, table)
    done = train(run, lm, table, watched())
    if done is None:
        raise KeyboardInterrupt(f"stopped; the last checkpoint is in {run.path}")
    return done


def _fields(settings: dict[str, Any], config: Any) -> dict[str, Any]:
    """Those settings that are fields of a configuration."""
    return {name: value for name, value in settings.items() if name in config.__dataclass_fields__}


def _absolute(source: str | Path) -> str:
    """A path that holds elsewhere too; words such as "embedded" and hub ids stay."""
    return str(Path(source).resolve()) if is_there(source) else str(source)


def tracer(
    cells: CellsOrTracer = "embedded", *, model: Model = "embedded", transcoders: Transcoders = "embedded"
) -> Tracer:
    """Put cells, a model and its transcoders together, to ask several questions of them.

    Parameters
    ----------
    cells
        As for `scx.pp.read_cells`. A Tracer comes back as it is.
    model
        As for `scx.pp.load_model`.
    transcoders
        As for `load_transcoders`.

    Returns
    -------
    Tracer
        Goes in the place of `cells` into the functions below; it remembers which answers it asked for, and
        calls features as an atlas of them does, where there is one.

    Raises
    ------
    ScxError
        The set is not of this model, or the cells have fewer than two types.

    References
    ----------
    docs/method.md §5, the local replacement model.

    Examples
    --------
    >>> import scx_core as scx
    >>> len(scx.tl.tracer("embedded").labels)
    10
    """
    if isinstance(cells, Tracer):
        return cells
    from scx_core.atlas.feature_naming import name_book

    lm, table = load_model(model), read_cells(cells)
    coders = load_transcoders(transcoders, model=lm)
    parts = {"data": table, "model": lm, "transcoders": coders}
    return make_tracer(lm, coders, table, name_book(parts), standing_of(parts, coders.folder))


def predict(
    cells: CellsOrTracer = "embedded",
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
) -> pd.Series:
    """Ask the original model for the type of each cell: the likeliest whole answer among its candidates.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    rows
        Row numbers of the cells (default: all).

    Returns
    -------
    pandas.Series
        The answer for each cell (categories: the candidates), indexed by the cells' names, so that
        `adata.obs["called"] = scx.tl.predict(adata)` works.

    Raises
    ------
    ScxError
        As for `tracer`.

    References
    ----------
    docs/method.md §4, "called".

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.predict("embedded", [0]).iloc[0]
    'CD14+ Monocyte'
    """
    asked = tracer(cells, model=model, transcoders=transcoders)
    wanted = np.arange(asked.table.n_cells) if rows is None else np.asarray(rows, dtype=np.int64)
    index = pd.Index(asked.table.cell_ids[wanted], name="cell")
    return pd.Series(pd.Categorical(asked.predict(wanted), asked.labels), index=index)


def validate(
    cells: CellsOrTracer = "embedded",
    *,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    n_cells: int = 0,
    baselines: bool = True,
    seed: int = 0,
) -> Validation:
    """Measure how well transcoders stand in for the MLPs on held-out cells.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`. Held-out cells are known by the data's fingerprint: give the file (or "embedded")
        that model and set were trained on, and not a copy of it in memory, which counts as new cells.
    n_cells
        Test cells, drawn with the seed; 0 takes all.
    baselines
        Also measure what has no features (linear maps, a table by token …) and logistic regression.
    seed
        Seed that draws the cells.

    Returns
    -------
    Validation
        CE (nats a token; original, transcoders, zero, mean), `ce_recovered`, `kl`, `fvu`, `l0`, `dead`, label
        agreement and accuracy, each with a 95% interval in `intervals`; by layer, by token class, warnings.

    Raises
    ------
    ScxError
        The set does not fit the model, or there is no cell to test on.

    References
    ----------
    docs/method.md §3.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.validate("embedded", n_cells=2, baselines=False).n_cells
    2
    """
    from scx_core.validation import validate as measure
    from scx_core.validation import validation_rows

    if isinstance(cells, Tracer):
        table, lm, coders = cells.table, cells.lm, cells.transcoders
    else:
        table, lm = read_cells(cells), load_model(model)
        coders = load_transcoders(transcoders, model=lm)
    rows = validation_rows(lm, coders, table, n_cells, seed)
    fit = rows.train if baselines else None
    words = rows.words if table.path is not None else f"{rows.words} {IN_MEMORY}"
    return measure(lm, coders, table, rows.test, train_rows=fit, split=words, progress=watched())


def trace_cell(
    cells: CellsOrTracer = "embedded",
    cell: int | str = 0,
    *,
    label: str | None = None,
    against: Sequence[str] | None = None,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> Circuit:
    """Trace the circuit of one cell: which genes and features made the model's answer.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell
        Row number, or the cell's name.
    label
        The answer to explain (default: the one that the model gives this cell).
    against
        Competitors (default: all other answers).
    **settings
        Fields of `TraceConfig`: target, nodes, node_share, edge_share …

    Returns
    -------
    Circuit
        Genes with their frozen attribution (in the unit of `target`: logits or nats), nodes, signed edges,
        scores, and how exactly the edges add up.

    Raises
    ------
    ScxError
        There is no such cell or answer.

    References
    ----------
    docs/method.md §5 and §6; Ameisen et al. 2025, Circuit Tracing.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.trace_cell("embedded", 0, nodes=32).accounting["max_relative_error"] < 1e-3
    True
    """
    asked = tracer(cells, model=model, transcoders=transcoders)
    row = asked.table.row_of(cell)
    return asked.cell(row, label=label, against=against, cfg=_settings(TraceConfig(), settings))


def _settings(base: TraceConfig, given: dict[str, Any]) -> TraceConfig:
    return replace(base, **_known(given, TraceConfig, "A trace"))


def _check(given: dict[str, Any], known: Iterable[str], what: str) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise ScxError(f"{what} has no setting {unknown[0]!r}.", f"Settings: {', '.join(known)}.")


def consensus(
    cells: CellsOrTracer = "embedded",
    cell_type: str | None = None,
    *,
    n_cells: int = 30,
    answer: str | None = None,
    against: Sequence[str] | None = None,
    seed: int = 0,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> Circuit:
    """Trace many cells of a type and combine them into its consensus circuit.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_type
        Type, as the cells call it (default: the most frequent).
    n_cells
        Cells of the type, drawn with the seed.
    answer
        The model's name for that type, where it differs.
    against
        Competitors (default: all other answers).
    seed
        Seed that draws the cells and the bootstrap.
    **settings
        Fields of `TraceConfig`: target, node_share, edge_share …

    Returns
    -------
    Circuit
        As of one cell, without positions: share of cells, mean, sd, 95% interval (over donors where they are
        known), p and q of every gene, feature and edge.

    Raises
    ------
    ScxError
        There are no such cells, or the model has no answer for them.

    References
    ----------
    docs/method.md §8; the seed paper, arXiv 2509.14723.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.consensus("embedded", "CD19+ B", n_cells=2).n_cells
    2
    """
    asked = tracer(cells, model=model, transcoders=transcoders)
    return asked.consensus(
        _type(asked, cell_type),
        answer=answer,
        against=against,
        trace=_settings(TraceConfig(), settings),
        cfg=ConsensusConfig(cells=n_cells, seed=seed),
        progress=watched(),
    )


def _type(asked: Tracer, cell_type: str | None) -> str:
    return cell_type if cell_type is not None else str(asked.table.cells_per_type().index[0])


def gene_effects(circuit: Circuit) -> pd.DataFrame:
    """List the genes of a circuit, strongest first.

    Parameters
    ----------
    circuit
        Of one cell, of a type, or a difference.

    Returns
    -------
    pandas.DataFrame
        One row a gene: frozen_attribution (in the circuit's unit), low and high (95%), share_of_cells, p,
        q, rank, known_marker; where knock-outs were measured, those first.

    Raises
    ------
    AttributeError
        It is no circuit.

    References
    ----------
    docs/method.md §8: an exact account of the frozen model, not the effect of taking the gene out; that is
    `knock_out`.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.gene_effects(scx.tl.trace_cell("embedded", 0, nodes=32)).columns[0]
    'gene'
    """
    from scx_core.figures import gene_table, markers_of

    return gene_table(circuit, *markers_of(circuit))


def knock_out(
    cells: CellsOrTracer = "embedded",
    cell_type: str | None = None,
    *,
    genes: Sequence[str] | None = None,
    n_cells: int = 12,
    answer: str | None = None,
    seed: int = 0,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
) -> pd.DataFrame:
    """Measure what the real model loses when a gene is taken out of the sentences of cells of a type.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_type
        Type, as the cells call it (default: the most frequent).
    genes
        Genes to take out, one at a time (default: every gene of each sentence).
    n_cells
        Cells of the type, drawn with the seed.
    answer
        The model's name for that type, where it differs.
    seed
        Seed that draws the cells and the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a gene, the largest loss first: n_cells (that hold it), rank (mean), and for each way (gap: a
        neutral gene in its place; text: taken out, the next move up) of the target (its unit) and of the
        label's log-odds (nats) the mean over these cells, _low and _high (95%), and _over_all
        (_over_all_low, _over_all_high): the mean over all cells read, 0 where one lacks the gene, by
        which genes are ranked; those that fewer than 3 cells hold stand last.

    Raises
    ------
    ScxError
        No sentence holds any of the genes.

    References
    ----------
    docs/method.md §9 and docs/knockouts.md.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.knock_out("embedded", "CD19+ B", genes=["CD74"], n_cells=2).index[0]
    'CD74'
    """
    from scx_core.evidence import knock_out_all, over_cells
    from scx_core.statistics.resampling import one_group

    asked = tracer(cells, model=model, transcoders=transcoders)
    label = _type(asked, cell_type)
    rows = asked.draw(label, ConsensusConfig(cells=n_cells, seed=seed))
    found = knock_out_all(
        asked, rows, asked.plan(answer or asked.answer_for(label)), genes=genes, progress=watched()
    )
    donors = asked.donors([one.row for one in found])
    records = []
    for gene in over_cells(found, one_group(len(found), seed, donors)):
        record: dict[str, Any] = {}
        for name, value in gene._asdict().items():
            if isinstance(value, str | int | float):
                record[name] = value
            elif value is not None:
                record |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
                ends = (value.over_all, value.over_all_low, value.over_all_high)
                record |= {
                    f"{name}_over_all{end}": x for end, x in zip(("", "_low", "_high"), ends, strict=True)
                }
        records.append(record)
    return pd.DataFrame(records).set_index("gene")


def switch_off(
    circuit: Circuit,
    gene: str,
    cells: CellsOrTracer = "embedded",
    *,
    way: str = "text",
    seed: int = 0,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
) -> SwitchedOff:
    """Switch one gene off in the cells of a circuit: what the real model answers before and after.

    Parameters
    ----------
    circuit
        Of a cell or of a type, traced in these cells by this model.
    gene
        Gene, as the cells call it.
    cells, model, transcoders
        As for `tracer`: what the circuit was traced with.
    way
        "text": taken out, the next genes move up. "gap": a neutral gene in its place.
    seed
        Seed that draws another gene of each sentence, the control.

    Returns
    -------
    SwitchedOff
        Mean probability of each answer before and after over the cells that hold the gene, n, what is lost of
        the target with its 95% interval, beside it the loss without another gene of each sentence (what any
        gene would do) and what the frozen attribution predicts; `words()` says it in a line.

    Raises
    ------
    ScxError
        No sentence of the circuit's cells holds the gene, or the circuit is a difference.

    References
    ----------
    docs/method.md §9 and docs/knockouts.md.

    Examples
    --------
    >>> import scx_core as scx
    >>> circuit = scx.tl.consensus("embedded", "CD19+ B", n_cells=2)
    >>> scx.tl.switch_off(circuit, "CD74").n
    2
    """
    from scx_core.evidence.knockouts.switch_off import switch_off as switched

    asked = tracer(cells, model=model, transcoders=transcoders)
    return switched(asked, circuit, gene, way=way, seed=seed)


def smallest_circuit(
    cells: CellsOrTracer = "embedded",
    cell_type: str | None = None,
    *,
    wanted: float = 0.8,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> Smallest:
    """Search the fewest features that keep a wanted share of the answer under real intervention.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_type
        Type, as the cells call it (default: the most frequent).
    wanted
        Share of the difference between all features and none that is kept.
    **settings
        Fields of `SmallestConfig`: search_cells, unseen_cells, reference_cells, compare, draws, seed …

    Returns
    -------
    Smallest
        `nodes` (layer, feature), the one that is missed most first; the share in cells that the search did
        not see with its interval; beside it random sets of the same size and, with `compare`, pruning by
        influence and greedy orders.

    Raises
    ------
    ScxError
        There are too few cells, or the features make no difference to the answer.

    References
    ----------
    docs/method.md §9; faithfulness after MIB, arXiv 2504.13151.

    Examples
    --------
    >>> import scx_core as scx
    >>> few = dict(search_cells=2, gradient_cells=1, unseen_cells=2, compare=False, draws=1)
    >>> len(scx.tl.smallest_circuit("embedded", "CD19+ B", wanted=0.3, **few).nodes) > 0
    True
    """
    from scx_core.evidence.smallest.smallest_circuit import SmallestConfig, smallest

    cfg = SmallestConfig(wanted=wanted, **_known(settings, SmallestConfig, "The search"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    return smallest(asked, _type(asked, cell_type), cfg=cfg, progress=watched())


def sufficiency_necessity(
    cells: CellsOrTracer = "embedded",
    cell_type: str | None = None,
    *,
    circuit: Circuit | None = None,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> Curves:
    """Keep only a type's circuit, or remove only it, over its size, beside matched random features.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_type
        Type, as the cells call it (default: the most frequent).
    circuit
        A consensus circuit of the type (default: traced here, from cells that are not measured).
    **settings
        Fields of `CurvesConfig`: circuit_cells, measured, reference_cells, growth, draws, orders, seed.

    Returns
    -------
    Curves
        `of("sufficiency")` and `of("necessity")`, each with points, area, the random circuits' area and the
        difference, with 95% intervals; `fractions` holds CPR and CMD.

    Raises
    ------
    ScxError
        There are too few cells, or the features make no difference to the answer.

    References
    ----------
    docs/method.md §9; CPR and CMD: Mueller et al. 2025 (MIB), arXiv 2504.13151.

    Examples
    --------
    >>> import scx_core as scx
    >>> few = dict(circuit_cells=2, measured=2, reference_cells=2, growth=99.0, draws=2, orders=0)
    >>> curves = scx.tl.sufficiency_necessity("embedded", "CD19+ B", **few)
    >>> curves.of("necessity").ahead.mean > 0
    True
    """
    from scx_core.evidence.curves import CurvesConfig, curves_of

    cfg = CurvesConfig(**_known(settings, CurvesConfig, "A curve"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    return curves_of(asked, _type(asked, cell_type), circuit=circuit, cfg=cfg, progress=watched())


def edit_features(
    cells: CellsOrTracer = "embedded",
    cell_type: str | None = None,
    features: Sequence[tuple[int, int]] | None = None,
    *,
    mode: str = "steer",
    doses: Sequence[float] | None = None,
    source: str | int | None = None,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> FeatureEdits:
    """Ablate, steer, set or patch features in the real model, over doses, beside random features.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_type
        Type whose cells are edited, as the cells call it (default: the most frequent).
    features
        (layer, feature), edited together (default: the most influential of the type's circuit).
    mode
        "ablate", "steer" (add a multiple of the maximum along the decoder direction), "set" (hold at a
        multiple of the maximum) or "patch".
    doses
        Multiples of the maximum, or shares of the way for ablate and patch (default: by mode).
    source
        Where "patch" takes activations from: a type, or the row of a cell (default: all other types).
    **settings
        Fields of `EditConfig`: top, where, circuit_cells, measured, reference_cells, draws, seed.

    Returns
    -------
    FeatureEdits
        `doses`: change of the target and of the label's log-odds and the share of cells called, with 95%
        intervals, beside random features of the same layers and activation mass.

    Raises
    ------
    ScxError
        There is no such mode, feature or source, or there are too few cells.

    References
    ----------
    docs/method.md §9.

    Examples
    --------
    >>> import scx_core as scx
    >>> few = dict(circuit_cells=2, measured=2, reference_cells=2, draws=2)
    >>> edits = scx.tl.edit_features("embedded", "CD19+ B", [(1, 5)], mode="ablate", doses=[1.0], **few)
    >>> len(edits.doses), edits.n
    (1, 2)
    """
    from scx_core.evidence import feature_edits

    cfg = feature_edits.EditConfig(**_known(settings, feature_edits.EditConfig, "An edit"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    return feature_edits.edit_features(
        asked, _type(asked, cell_type), mode=mode, features=features, doses=doses, source=source, cfg=cfg,
        progress=watched(),
    )  # fmt: skip


def edit_genes(
    cells: CellsOrTracer = "embedded",
    cell_type: str | None = None,
    genes: Sequence[str] | Mapping[str, Sequence[str]] | str | Path = (),
    *,
    n_cells: int = 12,
    answer: str | None = None,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> GeneLists:
    """Take lists of genes out of a type's sentences together, and put them in front, beside random genes.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_type
        Type, as the cells call it (default: the most frequent).
    genes
        Symbols, lists by name, or a file: one symbol a line (# begins a comment), or GMT.
    n_cells
        Cells of the type whose sentences are edited, drawn with the seed.
    answer
        The model's name for that type, where it differs.
    **settings
        Fields of `GeneListConfig`: draws, most (genes that are edited alone too), seed.

    Returns
    -------
    GeneLists
        `edits`: for each list its knock-out and its over-expression, change of the label's log-odds (nats)
        with 95% interval, that of random genes of the same ranks, the difference with p and q, and each gene
        alone; `absent` says of each gene that is nowhere where it was looked for.

    Raises
    ------
    ScxError
        No gene is given, the file holds none, or the type has too few cells.

    References
    ----------
    docs/evidence.md, "Interventions on features"; docs/method.md §9.

    Examples
    --------
    >>> import scx_core as scx
    >>> found = scx.tl.edit_genes("embedded", "CD19+ B", ["CD79A", "CD74"], n_cells=2, draws=2, most=0)
    >>> [edit.does for edit in found.edits]
    ['knock-out', 'over-expression']
    """
    from scx_core.evidence.knockouts.gene_lists import GeneListConfig, edit_gene_lists, read_gene_lists

    if isinstance(genes, str) and not Path(genes).exists() and not Path(genes).suffix:
        raise ScxError(f"There is no file {genes!r}.", f"A gene is given in a list: genes=[{genes!r}].")
    if isinstance(genes, str | Path):
        lists = read_gene_lists(genes)
    else:
        named = genes if isinstance(genes, Mapping) else {"genes": genes}
        lists = {name: list(dict.fromkeys(as_names(symbols))) for name, symbols in named.items() if symbols}
    if not lists:
        raise ScxError("No gene is given.", "Give symbols, or a file with a list.")
    cfg = GeneListConfig(cells=n_cells, **_known(settings, GeneListConfig, "An edit of genes"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    label = _type(asked, cell_type)
    return edit_gene_lists(asked, label, lists, answer=answer, cfg=cfg, progress=watched())


def redundancy(
    cells: CellsOrTracer = "embedded",
    cell_type: str | None = None,
    *,
    answer: str | None = None,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> Redundancy:
    """Ablate a type's strongest features, and genes, each alone and all together, and see what takes over.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_type
        Type, as the cells call it (default: the most frequent).
    answer
        The model's name for that type, where it differs.
    **settings
        Fields of `RedundancyConfig`: top, genes, risen, circuit_cells, measured, reference_cells, draws,
        seed.

    Returns
    -------
    Redundancy
        `tables` (features, random features, genes, random genes): singles, their sum, all together and the
        gap in nats with 95% intervals, p, q; `risen` features; `takeover` beside that of random groups.

    Raises
    ------
    ScxError
        There are too few cells, or the circuit has fewer than two features or genes for the answer.

    References
    ----------
    docs/method.md §9.

    Examples
    --------
    >>> import scx_core as scx
    >>> few = dict(top=2, genes=2, risen=1, circuit_cells=1, measured=2, reference_cells=1, draws=1)
    >>> list(scx.tl.redundancy("embedded", "CD19+ B", **few).tables)
    ['features', 'random features', 'genes', 'random genes']
    """
    from scx_core.evidence.redundancy import RedundancyConfig, redundancy_of

    cfg = RedundancyConfig(**_known(settings, RedundancyConfig, "A test of redundancy"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    return redundancy_of(asked, _type(asked, cell_type), answer=answer, cfg=cfg, progress=watched())


def stability(
    cells: CellsOrTracer = "embedded",
    cell_type: str | None = None,
    *,
    n_cells: int = 30,
    prompts: Sequence[str] = (),
    other_transcoders: Sequence[Transcoders] = (),
    other_models: Sequence[tuple[Model, Transcoders]] = (),
    features: bool = True,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> Stability:
    """Ask whether a type's circuit stays the same when cells, donors, ties, prompts, sets or models change.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_type
        Type, as the cells call it (default: the most frequent).
    n_cells
        Cells of the type, drawn with the seed.
    prompts
        Other wordings, by name or as texts.
    other_transcoders
        Other sets of the same model, such as one that was trained with another seed.
    other_models
        Other models, each with its set.
    features
        Compare features as well as genes; genes alone cost a tenth.
    **settings
        Fields of `StabilityConfig`: varied, splits, ties, resamples, draws, matched_on, nodes, seed.

    Returns
    -------
    Stability
        `axes`, one a thing changed: Jaccard's index of the strongest genes and features and Spearman's
        correlation of all, with 95% intervals, what chance gives, p and q; `left_out` says what was not.

    Raises
    ------
    ScxError
        There are fewer than four cells of the type, or a set or model does not fit.

    References
    ----------
    docs/method.md §9, "Stability".

    Examples
    --------
    >>> import scx_core as scx
    >>> few = dict(splits=1, ties=1, resamples=20, draws=20)
    >>> found = scx.tl.stability("embedded", "CD19+ B", features=False, n_cells=4, **few)
    >>> [axis.name for axis in found.axes]
    ['cells', 'ties']
    """
    from scx_core.evidence.stability import KINDS, StabilityConfig
    from scx_core.evidence.stability import stability as measure

    cfg = StabilityConfig(cells=n_cells, **_known(settings, StabilityConfig, "A test of stability"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    others: Any = other_transcoders
    others = [others] if isinstance(others, TranscoderSet | str | Path) else others
    sets = [load_transcoders(one, model=asked.lm) for one in others]
    one_pair = len(other_models) == 2 and not isinstance(other_models[0], tuple | list)
    pairs: Any = [other_models] if one_pair else other_models
    models = [tracer(asked.table, model=lm, transcoders=coders) for lm, coders in pairs]
    more: dict[str, Any] = {"prompts": prompts, "sets": sets, "models": models}
    more |= {"kinds": KINDS if features else KINDS[:1], "progress": watched()}
    return measure(asked, _type(asked, cell_type), **more, cfg=cfg)


def compare_rivals(
    cells: CellsOrTracer = "embedded",
    cell_types: Sequence[str] | None = None,
    *,
    sae: Transcoders | None = None,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> Rivals:
    """Trace neurons, SAE features, random directions and linear maps as the transcoders are, side by side.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_types
        Types, as the cells call them (default: the most frequent, as many as `types` says).
    sae
        A set of SAEs of the MLPs' outputs (default: none is compared).
    **settings
        Fields of `RivalConfig`: wanted, margin, search_cells, unseen_cells, reference_cells, knocked, genes,
        fit_cells, atlas_cells, test_cells, types, seed …

    Returns
    -------
    Rivals
        `sets`: each as a whole (CE recovered, FVU, interpretable share); `types`: the fewest units that keep
        the wanted share, prediction of knock-outs and markers, with 95% intervals, n and q.

    Raises
    ------
    ScxError
        There is no such type, or it has too few cells.

    References
    ----------
    docs/evidence.md, "Who else could have said it"; docs/method.md §9, "Baselines that could win".

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.compare_rivals("embedded", ["B"])
    Traceback (most recent call last):
        ...
    scx_core.errors.ScxError: ...
    """
    from scx_core.evidence.rivals.rivals import RivalConfig
    from scx_core.evidence.rivals.rivals import compare_rivals as compare

    cfg = RivalConfig(**_known(settings, RivalConfig, "A comparison"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    other = None if sae is None else load_transcoders(sae, model=asked.lm)
    return compare(asked, cell_types, sae=other, cfg=cfg, progress=watched())


def null_rates(
    cells: CellsOrTracer = "embedded",
    cell_types: tuple[str, str] | None = None,
    *,
    n_cells: int = 16,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> NullRates:
    """Deal labels anew, over and over: how often does each significance call say something about nothing?

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_types
        Two types whose cells are pooled (default: the two most frequent).
    n_cells
        Cells of each of them, drawn with the seed.
    **settings
        Fields of `NullConfig`: repeats, sets, donors, seed.

    Returns
    -------
    NullRates
        `rates`, one a call: the share of its tests with p below 0.05 and of whole families in which anything
        was called, with 95% intervals; `within` where both may be nominal or less.

    Raises
    ------
    ScxError
        There are fewer than two types, or one has fewer than four cells.

    References
    ----------
    docs/evidence.md, "False-positive rates".

    Examples
    --------
    >>> import scx_core as scx
    >>> found = scx.tl.null_rates("embedded", n_cells=4, repeats=10, sets=3)
    >>> found.rates[0].call, found.rates[0].runs
    ('difference, genes', 10)
    """
    from scx_core.evidence.null_rates import NullConfig
    from scx_core.evidence.null_rates import null_rates as rates

    cfg = NullConfig(cells=n_cells, **_known(settings, NullConfig, "A test of calls"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    return rates(asked, cell_types, cfg=cfg, progress=watched())


def _known(settings: dict[str, Any], config: type, what: str) -> dict[str, Any]:
    """The settings, if the configuration knows all of them. Raises ScxError."""
    _check(settings, config.__dataclass_fields__, what)  # type: ignore[attr-defined]
    return settings


def evidence(
    cells: CellsOrTracer = "embedded",
    cell_type: str | None = None,
    *,
    n_cells: int = 24,
    out: str | Path | None = None,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> TypeEvidence:
    """Measure all evidence for a cell type's circuit, or open what was measured, and write its report.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    cell_type
        Type, as the cells call it (default: the most frequent).
    n_cells
        Cells of the first half that the circuit and its rivals are made from.
    out
        File on .html or .pdf: the report, with its tables beside (default: none is written).
    **settings
        Fields of `TypesConfig`: measured, knocked, varied, genes, draws, least, seed.

    Returns
    -------
    TypeEvidence
        `ladder` (six levels, `got_as_far`), `circuit` (its genes with knock-outs measured in unseen cells),
        `rankings`, `prediction`, `doses`, `curves`, `steadiness`, `markers`, each with rivals, intervals, n.

    Raises
    ------
    ScxError
        There is no such type, it has too few cells for two halves, or the saved record is damaged.

    References
    ----------
    docs/evidence.md; docs/method.md §9.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.evidence("embedded", "CD34+")
    Traceback (most recent call last):
        ...
    scx_core.errors.ScxError: 'CD34+' has 13 cells: too few for two halves. Lower `least`, or take another.
    """
    from scx_core.evidence.by_type.measure import TypesConfig, evidence_of_types
    from scx_core.figures.report import write_report
    from scx_core.validation import validation_beside

    cfg = TypesConfig(cells=n_cells, **_known(settings, TypesConfig, "The evidence"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    found = evidence_of_types(asked, [_type(asked, cell_type)], cfg, progress=watched()).types[0]
    if out is not None:
        parts = {"data": asked.table.fingerprint, "model": asked.lm.fingerprint}
        marks = parts | {"transcoders": asked.transcoders.fingerprint}
        write_report(found, out, validation_beside(asked.transcoders.folder, marks))
    return found


def difference(
    cells: CellsOrTracer = "embedded",
    first: str | None = None,
    second: str | None = None,
    *,
    n_cells: int = 30,
    seed: int = 0,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
) -> Difference:
    """Subtract the circuits of two cell types, both asked whether they are the first or the second.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    first, second
        Types, as the cells call them (default: the two most frequent).
    n_cells
        Cells of each type, drawn with the seed.
    seed
        Seed that draws the cells and the bootstrap.

    Returns
    -------
    Difference
        Both consensus circuits (`first`, `second`) and `difference`, a Circuit of first less second, with p
        and q of every gene, feature and edge; only q < 0.05 is called a difference.

    Raises
    ------
    ScxError
        There are no such cells, or the model has one name for both types.

    References
    ----------
    docs/method.md §8.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.difference("embedded", "CD19+ B", "Dendritic", n_cells=2).difference.scope
    'difference'
    """
    from scx_core.circuits import compare_types

    asked = tracer(cells, model=model, transcoders=transcoders)
    types = asked.table.cells_per_type().index.tolist()
    one = first if first is not None else types[0]
    other = second if second is not None else next(name for name in types if name != one)
    cfg = ConsensusConfig(cells=n_cells, seed=seed)
    return compare_types(asked, one, other, cfg=cfg, progress=watched())


def atlas(
    cells: CellsOrTracer = "embedded",
    *,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    n_cells: int = 0,
    out: str | Path | None = None,
    **settings: Any,
) -> Atlas:
    """Find what every feature responds to, and give it a verdict.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    n_cells
        Cells that are read, drawn with the seed; 0 takes all.
    out
        Folder to save it in (default: it stays in memory).
    **settings
        Fields of `AtlasConfig`: random (draws of random directions), baseline (raw neurons as well), context,
        seed …

    Returns
    -------
    Atlas
        `features` is a pandas table of one row a feature; `shares` the shares of the verdicts, to be read
        beside those of random directions (`scx_core.atlas.excess`).

    Raises
    ------
    ScxError
        The set does not fit the model, or there are fewer than two cells.

    References
    ----------
    docs/features.md; docs/method.md §9 for the baselines.

    Examples
    --------
    >>> import scx_core as scx
    >>> made = scx.tl.atlas("embedded", n_cells=4, random=1, baseline=False, context=0)
    >>> len(made.features) == 3 * scx.tl.load_transcoders("embedded").n_features  # three layers
    True
    """
    from scx_core.atlas import AtlasConfig, make_atlas

    _check(settings, sorted(set(AtlasConfig.__dataclass_fields__) - {"cells"}), "An atlas")
    asked = tracer(cells, model=model, transcoders=transcoders)
    cfg = AtlasConfig(cells=n_cells, **settings)
    made = make_atlas(asked.lm, asked.transcoders, asked.table, cfg=cfg, progress=watched())
    return made if out is None else made.save(out)


def share(
    cells: CellsOrTracer = "embedded",
    out: str | Path = "share.html",
    *,
    cell_types: Sequence[str] | None = None,
    atlas: Atlas | None = None,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    **settings: Any,
) -> Path:
    """Write atlas, circuits, evidence and validation of a model as one HTML file that is searched offline.

    Parameters
    ----------
    cells, model, transcoders
        As for `tracer`.
    out
        The file.
    cell_types
        Types whose circuits are in it (default: all that the model has an answer for).
    atlas
        Of this set (default: the fittest that was made or ships).
    **settings
        Fields of `ShareConfig`: cells (of a type whose circuit is traced; 0: none is), features (of the
        atlas, at most), seed.

    Returns
    -------
    pathlib.Path
        The file; it holds all that it shows and asks nothing of any other place.

    Raises
    ------
    ScxError
        There is no such type, or the file cannot be written.

    References
    ----------
    scx_core.share; evidence and validation are those in the runs folder.

    Examples
    --------
    >>> import scx_core as scx
    >>> scx.tl.share("embedded", "mine.html", cell_types=[], features=20).name
    'mine.html'
    """
    from scx_core.share import ShareConfig, gather, write_share

    cfg = ShareConfig(**_known(settings, ShareConfig, "What is shared"))
    asked = tracer(cells, model=model, transcoders=transcoders)
    return write_share(gather(asked, cell_types, cfg, atlas=atlas, progress=watched()), out, cfg)


def store(adata: anndata.AnnData, result: Any, name: str) -> None:
    """Put a result into an AnnData object, in place; it survives `write_h5ad` and `read_h5ad`.

    Parameters
    ----------
    adata
        Its `uns["scx"]["results"]` gets the result.
    result
        A circuit, a difference, a validation, any evidence, or a table.
    name
        What it is called there; one of the same name is replaced.

    Returns
    -------
    None
        The object is changed.

    Raises
    ------
    ScxError
        It is no result.

    References
    ----------
    scx_core.share.in_anndata.

    Examples
    --------
    >>> import anndata, numpy, pandas, scx_core as scx
    >>> adata = anndata.AnnData(numpy.zeros((1, 1)))
    >>> scx.tl.store(adata, pandas.DataFrame({"gene": ["CD74"]}), "genes of CD19+ B")
    >>> scx.tl.stored(adata)
    {'genes of CD19+ B': 'DataFrame'}
    """
    from scx_core.share import keep_in

    keep_in(adata, result, name)


def stored(adata: anndata.AnnData, name: str | None = None) -> Any:
    """Take a result out of an AnnData object.

    Parameters
    ----------
    adata
        An object that `store` changed, or a file of it read again.
    name
        What the result is called (default: the kinds of all are listed by name).

    Returns
    -------
    Circuit, Difference, Validation, TypeEvidence, pandas.DataFrame or dict
        What was stored; other evidence as the record of its `to_json`.

    Raises
    ------
    ScxError
        There is none of this name, or it is damaged.

    References
    ----------
    scx_core.share.in_anndata.

    Examples
    --------
    >>> import anndata, numpy, pandas, scx_core as scx
    >>> adata = anndata.AnnData(numpy.zeros((1, 1)))
    >>> scx.tl.store(adata, pandas.DataFrame({"gene": ["CD74"]}), "genes")
    >>> scx.tl.stored(adata, "genes")["gene"].tolist()
    ['CD74']
    """
    from scx_core.share import kept_in, result_in

    return kept_in(adata) if name is None else result_in(adata, name)


def annotate(
    adata: anndata.AnnData,
    *,
    model: Model = "embedded",
    transcoders: Transcoders = "embedded",
    features: Sequence[tuple[int, int]] | None = None,
    obs: Sequence[tuple[int, int]] = (),
    atlas: Atlas | None = None,
    **choices: Any,
) -> anndata.AnnData:
    """Put the features' activations into a copy of an AnnData object, for scanpy to plot.

    Parameters
    ----------
    adata
        Cells × genes, in memory; it is not changed.
    model
        As for `scx.pp.load_model`.
    transcoders
        As for `load_transcoders`.
    features
        (layer, feature) of each (default: all that fire in these cells).
    obs
        Features that become columns of obs as well.
    atlas
        Of this set: verdicts and labels go beside the features.
    **choices
        As for `scx.pp.read_cells`.

    Returns
    -------
    anndata.AnnData
        obsm["scx_features"] [cells, features], mean activation over a cell's tokens, sparse;
        obsm["scx_features_max"]; varm["scx_feature_mass"] [genes, features]; uns["scx"] with their names.

    Raises
    ------
    ScxError
        There is no such feature, or the atlas is of another set.

    References
    ----------
    scx_core.atlas.annotate.

    Examples
    --------
    >>> import scanpy, scx_core as scx
    >>> scx.tl.annotate(scanpy.datasets.pbmc68k_reduced()[:4], obs=[(2, 5)]).obs["scx L2·5"].shape
    (4,)
    """
    from scx_core.atlas import Side
    from scx_core.atlas import annotate as with_features

    lm = load_model(model)
    table = read_cells(adata, require_labels=False, **choices)
    side = Side(lm, load_transcoders(transcoders, model=lm))
    return with_features(adata, side, table, features=features, obs=obs, atlas=atlas, progress=watched())

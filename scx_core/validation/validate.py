"""From a model, its transcoders and held-out cells to the validation table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.language import Language, answer_form, fast_attention, rounded_products, with_answers
from scx_core.metrics import ce_recovered
from scx_core.runs import Progress, provenance, silent
from scx_core.runs.micro_batch import MicroBatch, unchanged_if_it_fails
from scx_core.sentences import TOKEN_CLASSES
from scx_core.transcoders import TranscoderSet
from scx_core.transcoders.check import check_set
from scx_core.validation.baselines import Baseline, fit_baselines
from scx_core.validation.held_out import (
    FIT_SEED,
    Texts,
    TextsOfRows,
    candidates_of,
    check_rows,
    draw_rows,
)
from scx_core.validation.label_agreement import (
    ORIGINAL,
    TRANSCODER,
    Answers,
    balanced,
    difference,
    logistic_labels,
    share,
)
from scx_core.validation.measure import (
    LayerStream,
    Losses,
    add_batch,
    add_constant_batch,
    add_layers_batch,
)
from scx_core.validation.result import ClassRow, LayerRow, Logistic, Validation, layer_mark
from scx_core.validation.warnings import added_by_features, baseline_row, cautions, groups_of, intervals_of
from scx_core.validation.work import LAYER_BATCH, LAYER_SEED, cells_alone, fit_cells


@torch.no_grad()
def validate(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    rows: Sequence[int] | np.ndarray,
    *,
    train_rows: Sequence[int] | np.ndarray | None = None,
    split: str = "",
    batch: int = 8,
    per_layer: bool = True,
    layer_cells: int | None = None,
    progress: Progress = silent,
) -> Validation:
    """Measure `transcoders` on the test cells `rows` of `table` (method §3), in the order of the table.

    Beside them, where `train_rows` are given, what could do as well without features: linear maps and their
    like, fitted on `work.fit_cells` of these cells, and logistic regression on the genes. `split` is a
    sentence on which cells trained, chose and test (`validation_rows` makes all three).

    Goes over the cells twice (the second time without MLPs, and with their means) and keeps only sums and a
    few numbers a cell, so memory hardly grows with the cells. Where the device's memory does not suffice for
    `batch` cells, fewer are taken at a time. `per_layer` costs two more forward passes a layer. Raises
    ScxError when there is no cell, a cell has no label, or the transcoders do not fit the model.
    """
    rows, table = np.sort(np.asarray(rows, dtype=np.int64)), with_answers(lm, table)
    check_rows(table, rows)
    check_set(lm, transcoders)
    transcoders = transcoders.to(lm.device)
    fit = np.asarray([] if train_rows is None else train_rows, dtype=np.int64)
    if len(np.intersect1d(fit, rows)):
        raise ScxError("The baselines would be fitted on cells that test.", "Give training cells only.")
    some = draw_rows(np.sort(fit), fit_cells(lm, table, fit), FIT_SEED)
    with fast_attention(lm), rounded_products(lm.device):
        beside = (
            fit_baselines(lm, transcoders, table, some, batch=batch, progress=progress) if len(fit) else []
        )
    candidates = candidates_of(lm, table, rows)
    lead = answer_form(lm, table).lead
    answers = Answers(candidates, lead)
    losses = Losses(lm.facts.n_layers, [rival.key for rival in beside])
    layers = [LayerStream() for _ in range(lm.facts.n_layers)]
    read, micro = TextsOfRows(lm, table, rows, candidates, lead), MicroBatch()
    # Where nobody asks for answers, the true one alone stands behind a prompt.
    plain = TextsOfRows(lm, table, rows, [], lead)
    with fast_attention(lm), rounded_products(lm.device):

        def over(
            texts_of: TextsOfRows,
            some: np.ndarray,
            add: Callable[[Texts], None],
            sums: Sequence[Any],
            words: str,
            most: int = batch,
        ) -> None:
            """Every one of these cells, in batches that the memory has room for."""

            def attempt(part: slice) -> int:
                with unchanged_if_it_fails(*sums):
                    add(texts_of.of(some[part]))
                return len(some[part])

            done = 0
            for n in micro.pieces(attempt, len(some), most):
                done += n
                progress(done, len(some), words)

        all_sums = (losses, answers, *layers)
        over(
            read,
            rows,
            lambda texts: add_batch(lm, transcoders, texts, losses, layers, answers, beside),
            all_sums,
            "Test cells",
        )
        means = [torch.as_tensor(stream.spread.mean_d) for stream in layers]
        over(
            plain,
            rows,
            lambda texts: add_constant_batch(lm, texts, losses, means),
            (losses,),
            "Without MLPs, and at their means",
        )
        alone = _layer_rows(lm, table, rows, layer_cells) if per_layer else rows[:0]
        over(
            plain,
            alone,
            lambda texts: add_layers_batch(lm, transcoders, texts, losses),
            (losses,),
            "Each layer alone",
            min(batch, LAYER_BATCH),
        )
    found = _table(len(rows), len(alone), losses, layers, answers)
    found = _with_baselines(found, table, rows, losses, answers, beside, fit)
    record = provenance(
        config=lm.sentence_config, data=table, model=lm, transcoders=transcoders, lead=lead, n_cells=len(rows)
    )
    found = found._replace(form=transcoders.form, split=split, fit_cells=len(some))
    return found._replace(warnings=cautions(found), provenance=record)


def _layer_rows(lm: Language, table: CellTable, rows: np.ndarray, wanted: int | None) -> np.ndarray:
    """The test cells on which each layer is replaced alone."""
    n = cells_alone(lm, table, rows) if wanted is None else wanted or len(rows)
    return draw_rows(rows, n, LAYER_SEED)


def _with_baselines(
    found: Validation,
    table: CellTable,
    rows: np.ndarray,
    losses: Losses,
    answers: Answers,
    beside: Sequence[Baseline],
    train_rows: np.ndarray,
) -> Validation:
    """The table with intervals, balanced accuracies, the baselines and what features add over them."""
    groups_C, words = groups_of(table, rows)
    truth_C = answers.truth_C
    intervals = intervals_of(losses, answers, TRANSCODER, groups_C)
    intervals["label_accuracy_transcoder"] = intervals.pop("label_accuracy")
    intervals["label_accuracy_orig"] = share(answers.right_C(ORIGINAL))[1]
    figures: dict[str, Any] = {}
    for name, key in (("orig", ORIGINAL), ("transcoder", TRANSCODER)):
        figure, interval = balanced(truth_C, answers.right_C(key), groups_C)
        figures[f"balanced_accuracy_{name}"], intervals[f"balanced_accuracy_{name}"] = figure, interval
    table_of = tuple(baseline_row(rival.key, losses, answers, groups_C) for rival in beside)
    return found._replace(
        **figures,
        intervals=intervals,
        drawn_over=words,
        baselines=table_of,
        added=added_by_features(table_of, losses, answers, groups_C) if table_of else None,
        logistic=_logistic(table, rows, answers, groups_C, train_rows),
    )


def _logistic(
    table: CellTable,
    rows: np.ndarray,
    answers: Answers,
    groups_C: np.ndarray | None,
    train_rows: np.ndarray,
) -> Logistic | None:
    made = logistic_labels(table, train_rows, rows) if len(train_rows) else None
    if made is None:
        return None
    label_C, n_train = made
    right_C = label_C == table.labels[rows].astype(str)
    return Logistic(
        n_train,
        table.n_genes,
        *share(right_C),
        *balanced(answers.truth_C, right_C, groups_C),
        *difference(answers.right_C(ORIGINAL), right_C, groups_C),
    )


def _table(
    n_cells: int, layer_cells: int, losses: Losses, layers: list[LayerStream], answers: Answers
) -> Validation:
    ce = {name: means.total for name, means in losses.ce.items()}
    dead_LF = np.stack([stream.dead_F for stream in layers])
    live_LF = np.stack([stream.live_F for stream in layers])
    return Validation(
        n_cells=n_cells,
        n_tokens=int(losses.kl["transcoder"].count_C.sum()),
        ce_orig=ce["orig"],
        ce_transcoder=ce["transcoder"],
        ce_zero=ce["zero"],
        ce_mean=ce["mean"],
        ce_recovered=ce_recovered(ce["zero"], ce["transcoder"], ce["orig"]),
        kl=losses.kl["transcoder"].total,
        l0=float(np.mean([stream.l0.total for stream in layers])),
        fvu=float(np.mean([stream.fvu for stream in layers])),
        dead=float(dead_LF.mean()),
        live_share=float(live_LF.mean()),
        n_features=dead_LF.shape[1],
        label_accuracy_orig=answers.accuracy(ORIGINAL),
        label_accuracy_transcoder=answers.accuracy(TRANSCODER),
        label_agreement=answers.agreement(TRANSCODER),
        per_layer=tuple(_layer_row(k, losses, stream) for k, stream in enumerate(layers)),
        by_token_class={name: _class_row(kind, losses, layers) for kind, name in enumerate(TOKEN_CLASSES)},
        confusion=answers.confusion,
        warnings=(),
        provenance={},
        layer_cells=layer_cells,
        layer_tokens=int(losses.layers_orig.count_C.sum()),
    )


def _layer_row(k: int, losses: Losses, stream: LayerStream) -> LayerRow:
    ce, zero, orig = losses.layer_ce[k].total, losses.layer_zero[k].total, losses.layers_orig.total
    return LayerRow(
        layer=k,
        ce=ce,
        ce_zero=zero,
        kl=losses.layer_kl[k].total,
        ce_recovered=ce_recovered(zero, ce, orig),
        fvu=stream.fvu,
        l0=stream.l0.total,
        dead=float(stream.dead_F.mean()),
        prompt_mass=stream.prompt_mass,
        gene_features=stream.gene_features,
        mark=layer_mark(zero, ce, orig),
    )


def _class_row(kind: int, losses: Losses, layers: list[LayerStream]) -> ClassRow:
    ce = {name: means.of(kind) for name, means in losses.ce.items()}
    return ClassRow(
        n_tokens=int(losses.kl["transcoder"].count_C[kind]),
        ce_orig=ce["orig"],
        ce_transcoder=ce["transcoder"],
        ce_zero=ce["zero"],
        ce_mean=ce["mean"],
        ce_recovered=ce_recovered(ce["zero"], ce["transcoder"], ce["orig"]),
        kl=losses.kl["transcoder"].of(kind),
        l0=float(np.mean([stream.l0.of(kind) for stream in layers])),
    )

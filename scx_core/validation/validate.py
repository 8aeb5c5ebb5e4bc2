"""From a model, its transcoders and held-out cells to the validation table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scx_core.cells import CellTable
from scx_core.errors import ScxError
from scx_core.language import Language
from scx_core.runs import Progress, provenance, silent
from scx_core.sentences import TOKEN_CLASSES
from scx_core.transcoders import TranscoderSet
from scx_core.validation.measure import Answers, Losses, add_batch, add_mean_batch
from scx_core.validation.result import ClassRow, LayerRow, Validation, recovered
from scx_core.validation.streams import LayerStream
from scx_core.validation.texts import batches, candidates_of, check_rows, lead_of
from scx_core.validation.warnings import cautions


@torch.no_grad()
def validate(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    rows: Sequence[int] | np.ndarray,
    *,
    batch: int = 8,
    per_layer: bool = True,
    progress: Progress = silent,
) -> Validation:
    """Measure `transcoders` on the held-out cells `rows` of `table` (method §3).

    Goes over the cells twice (the second time for the mean baseline) and keeps only sums, so memory grows
    with `batch` and not with the cells. `per_layer` costs two more forward passes a layer. Raises ScxError
    when there is no cell, a cell has no label, or the transcoders do not fit the model.
    """
    rows = np.asarray(rows, dtype=np.int64)
    check_rows(table, rows)
    _check_fit(lm, transcoders)
    transcoders = transcoders.to(lm.device)
    candidates = candidates_of(lm, table, rows)
    lead = lead_of(lm, table, rows, candidates)
    answers, losses = Answers(candidates, lead), Losses(lm.facts.n_layers)
    layers = [LayerStream() for _ in range(lm.facts.n_layers)]
    done = 0
    for texts in batches(lm, table, rows, candidates, lead, batch):
        add_batch(lm, transcoders, texts, losses, layers, per_layer)
        answers.add(lm, transcoders, texts)
        done += len(texts.cells)
        progress(done, len(rows), "Held-out cells")
    means, done = [torch.as_tensor(stream.spread.mean_d) for stream in layers], 0
    for texts in batches(lm, table, rows, candidates, lead, batch):
        add_mean_batch(lm, texts, losses, means)
        done += len(texts.cells)
        progress(done, len(rows), "Mean baseline")
    found = _table(len(rows), losses, layers, answers)
    record = provenance(
        config=lm.sentence_config, data=table, model=lm, transcoders=transcoders, lead=lead, n_cells=len(rows)
    )
    found = found._replace(form=transcoders.form)
    return found._replace(warnings=cautions(found), provenance=record)


def _check_fit(lm: Language, transcoders: TranscoderSet) -> None:
    theirs, ours = (len(transcoders.layers), transcoders.width), (lm.facts.n_layers, lm.facts.width)
    if theirs != ours:
        raise ScxError(
            f"The transcoders are for {theirs[0]} layers of width {theirs[1]}, the model {lm.name} has "
            f"{ours[0]} of width {ours[1]}.",
            "Choose transcoders that were trained on this model.",
        )


def _table(n_cells: int, losses: Losses, layers: list[LayerStream], answers: Answers) -> Validation:
    ce = {name: means.total for name, means in losses.ce.items()}
    dead_LF = np.stack([stream.dead_F for stream in layers])
    live_LF = np.stack([stream.live_F for stream in layers])
    return Validation(
        n_cells=n_cells,
        n_tokens=int(losses.kl.count_C.sum()),
        ce_orig=ce["orig"],
        ce_transcoder=ce["transcoder"],
        ce_zero=ce["zero"],
        ce_mean=ce["mean"],
        ce_recovered=recovered(ce["zero"], ce["transcoder"], ce["orig"]),
        kl=losses.kl.total,
        l0=float(np.mean([stream.l0.total for stream in layers])),
        fvu=float(np.mean([stream.fvu for stream in layers])),
        dead=float(dead_LF.mean()),
        live_share=float(live_LF.mean()),
        n_features=dead_LF.shape[1],
        label_accuracy_orig=float(answers.original_KK.trace() / n_cells),
        label_accuracy_transcoder=float(answers.replaced_KK.trace() / n_cells),
        label_agreement=answers.same / n_cells,
        per_layer=tuple(_layer_row(k, losses, stream) for k, stream in enumerate(layers)),
        by_token_class={name: _class_row(kind, losses, layers) for kind, name in enumerate(TOKEN_CLASSES)},
        confusion=answers.confusion,
        warnings=(),
        provenance={},
    )


def _layer_row(k: int, losses: Losses, stream: LayerStream) -> LayerRow:
    ce, zero = losses.layer_ce[k].total, losses.layer_zero[k].total
    return LayerRow(
        layer=k,
        ce=ce,
        ce_zero=zero,
        kl=losses.layer_kl[k].total,
        ce_recovered=recovered(zero, ce, losses.ce["orig"].total),
        fvu=stream.fvu,
        l0=stream.l0.total,
        dead=float(stream.dead_F.mean()),
        prompt_mass=stream.prompt_mass,
        gene_features=stream.gene_features,
    )


def _class_row(kind: int, losses: Losses, layers: list[LayerStream]) -> ClassRow:
    ce = {name: means.of(kind) for name, means in losses.ce.items()}
    return ClassRow(
        n_tokens=int(losses.kl.count_C[kind]),
        ce_orig=ce["orig"],
        ce_transcoder=ce["transcoder"],
        ce_zero=ce["zero"],
        ce_mean=ce["mean"],
        ce_recovered=recovered(ce["zero"], ce["transcoder"], ce["orig"]),
        kl=losses.kl.of(kind),
        l0=float(np.mean([stream.l0.of(kind) for stream in layers])),
    )

"""The three things that people ask of this room: a tracer, one cell's circuit, a cell type's circuit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from scx_core.attribution.backward import total_effects
from scx_core.attribution.local_replacement_model import FrozenPrompt, trace_many
from scx_core.attribution.replacement_model import Replacement, replacement
from scx_core.attribution.target import (
    TargetPlan,
    finished_target,
    frozen_for,
    plan_feature,
    plan_target,
    target_row,
)
from scx_core.cells import CellTable
from scx_core.circuits.circuit import Circuit, GeneEffect
from scx_core.circuits.consensus import ConsensusConfig, Merged, combine
from scx_core.circuits.feature_names import NameBook, with_names
from scx_core.circuits.many_cells.kept_cells import KeptCells
from scx_core.circuits.many_cells.two_steps import Partial, TwoSteps, is_large
from scx_core.circuits.marker_counts import with_marker_counts
from scx_core.circuits.trace import TraceConfig, finish, graph_of, merged_graph, span_effects, trace_graph
from scx_core.circuits.words.whose import TRAINING_CELLS, UNKNOWN, Elsewhere, said
from scx_core.errors import ScxError
from scx_core.language import (
    Language,
    answer_form,
    answer_labels,
    answers_of,
    encode_cells,
    predicted,
    score_answers,
    with_answers,
)
from scx_core.runs.options import to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.runs.provenance import provenance
from scx_core.sentences import EncodedCell, ties_of
from scx_core.transcoders import TranscoderSet
from scx_core.validation.held_out import training_rows
from scx_core.validation.standing import Standing

TRACE, CONSENSUS = TraceConfig(), ConsensusConfig()
ELSEWHERE_CELLS, ELSEWHERE_LARGE = 60, 12  # cells of all types that are asked how often they get an answer
KEPT_PROMPTS = 1024  # of single cells; some 20 KB each


@dataclass
class Tracer:
    """A model, its transcoders and a cell table, put together once and used many times.

    `labels` are the candidate answers (the model's own, else the types of the table); `lead` is what the
    checkpoint expects before an answer, asked once and kept. `names`: what an atlas calls the features;
    without it a circuit names them by itself (feature_names.py). `standing`: what validation says of them.
    """

    lm: Language
    transcoders: TranscoderSet
    table: CellTable
    rep: Replacement
    labels: list[str]
    names: NameBook | None = None
    standing: Standing | None = None
    _scores: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    # Of this model and this table alone: `dataclasses.replace` begins anew.
    _prompts: dict[int, EncodedCell] = field(default_factory=dict, init=False, repr=False, compare=False)
    _elsewhere: dict[tuple[str, str], Elsewhere | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _trained: dict[tuple[str, ...], np.ndarray | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def lead(self) -> str:
        """The text between the prompt and an answer."""
        return answer_form(self.lm, self.table).lead

    def encode(self, rows: Sequence[int] | np.ndarray) -> list[EncodedCell]:
        """Prompts of these rows, as this model wants them, within its context; some are kept."""
        wanted, kept = [int(row) for row in rows], self._prompts
        new = [row for row in dict.fromkeys(wanted) if row not in kept]
        made = dict(zip(new, encode_cells(self.lm, self.table, new), strict=True)) if new else {}
        found = [made[row] if row in made else kept[row] for row in wanted]
        if len(kept) + len(made) > KEPT_PROMPTS:
            kept.clear()
        kept.update(itertools.islice(made.items(), KEPT_PROMPTS))
        return found

    def predict(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """The label that the original model finds likeliest for each row."""
        return predicted(self.scores(self.encode(rows)).sum(-1), self.labels)

    def scores(self, cells: Sequence[EncodedCell]) -> np.ndarray:
        """Log-probability of each token of each label's answer in each cell, [B, K, W] (nats), 0 behind an
        answer's end; kept, so that a cell is asked once."""
        new = {cell.ids: cell for cell in cells if cell.ids not in self._scores}
        if new:
            answers = list(answers_of(self.lm, self.labels, self.lead).values())
            self._scores.update(zip(new, score_answers(self.lm, list(new), answers), strict=True))
        return np.stack([self._scores[cell.ids] for cell in cells])

    def plan(
        self,
        label: str,
        against: Sequence[str] | None = None,
        kind: str = "auto",
        token: int | str | None = None,
    ) -> TargetPlan:
        """The target of a label; see `plan_target`."""
        return plan_target(
            self.lm, self.labels, label, lead=self.lead, against=against, kind=kind, token=token
        )

    def plans_in_cells(
        self, cells: Sequence[EncodedCell], plan: TargetPlan, answer: str | None = None
    ) -> list[tuple[TargetPlan, bool | None]]:
        """The plan in each cell, and whether the model gives the cell this answer (default: the plan's): the
        whole answer, the likeliest of all labels, as `predict` and `validate` count. None without an answer.
        """
        answer = answer or plan.answer
        if answer not in self.labels:
            return [(plan, None)] * len(cells)
        score_BKW = self.scores(cells)
        given = predicted(score_BKW.sum(-1), self.labels)
        rivals = [self.labels.index(name) for name in plan.against]
        return [
            (plan.in_cell(score_KW[rivals]), name == answer)
            for score_KW, name in zip(score_BKW, given, strict=True)
        ]

    def gene_effects(
        self, row: int, label: str, against: Sequence[str] | None = None, kind: str = "auto"
    ) -> list[GeneEffect]:
        """The genes of one cell in the order of its sentence: one forward and one backward pass, no edges."""
        self.check_row(row)
        cell, plan = self.encode([row])[0], self.plan(label, against, kind)
        frozen = frozen_for(self.rep, cell, plan)
        target, target_bias, _ = target_row(frozen, plan)
        return span_effects(total_effects(frozen, target, target_bias).token_T, cell.spans)

    def cell(
        self,
        row: int,
        *,
        label: str | None = None,
        against: Sequence[str] | None = None,
        cfg: TraceConfig = TRACE,
    ) -> Circuit:
        """The circuit of one cell. Without a label, the one that the model gives this cell.

        Raises ScxError when the row or the label does not exist.
        """
        self.check_row(row)
        cell = self.encode([row])[0]
        answer = label if label is not None else self.predict([row])[0]
        (plan, called), *_ = self.plans_in_cells(
            [cell], self.plan(answer, against, cfg.target, cfg.token), answer
        )
        graph = trace_graph(self.rep, cell, plan, cfg.nodes, cfg.choice, called)
        about = self.about({"trace": to_dict(cfg)}, cell=self.cell_record(row))
        about |= self._said(str(self.table.labels[row]), [cell], answer) | self.training_cells([row])
        found = finish(graph, cell, cfg, about)
        return self._with_markers(with_names(found, self.names), answer)

    def feature(
        self, row: int, layer: int, feature: int, position: int | None = None, cfg: TraceConfig = TRACE
    ) -> Circuit:
        """The circuit of a transcoder feature's pre-activation in one cell, at the last token where it is
        active unless a position is given.

        Raises ScxError when the row or the feature does not exist, or it is not active there.
        """
        self.check_row(row)
        cell, plan = self.encode([row])[0], plan_feature(self.rep, layer, feature, position)
        graph = trace_graph(self.rep, cell, plan, cfg.nodes, cfg.choice)
        about = self.about({"trace": to_dict(cfg)}, cell=self.cell_record(row)) | self.training_cells([row])
        return with_names(finish(graph, cell, cfg, about), self.names)

    def cell_record(self, row: int) -> dict[str, str | int]:
        """Which cell a row of the table is, for a provenance."""
        return {
            "row": int(row),
            "cell_id": str(self.table.cell_ids[row]),
            "cell_label": str(self.table.labels[row]),
        }

    def answer_for(self, label: str) -> str:
        """The model's answer for a type of the table: as the mapping of labels says, its own name included.

        Data sets name the same cells differently ("NK" and "CD56+ NK"). Raises ScxError for a type without an
        answer, saying what the model calls most of its cells: no other type's circuit is drawn unasked.
        """
        if own := own_answer(self.table, self.labels, label):
            return own
        called, share = self.commonest_answer(label)
        raise ScxError(
            f"The model {self.lm.name} has no answer for the type {label!r}; it calls {share} of its cells "
            f"{called}.",
            "Name the answer to explain (--answer), or map types to the model's answers (page Data, or "
            "--answers FILE).",
        )

    def commonest_answer(self, label: str, cells: int = 12) -> tuple[str, str]:
        """What the model calls most of some cells of a type, and of how many it says so ("7 of 12")."""
        given = self.predict(self.draw(label, ConsensusConfig(cells=cells)))
        most = max(sorted(set(given)), key=given.count)
        return most, f"{given.count(most)} of {len(given)}"

    def draw(self, label: str, cfg: ConsensusConfig) -> np.ndarray:
        """The rows that a consensus of a type uses: drawn without replacement with the seed; where donors are
        known, as evenly of each as they have cells, because one donor with most of the cells says little
        about others (resampling.py)."""
        rows = np.flatnonzero(self.table.labels == label)
        if not len(rows):
            known = ", ".join(self.table.types)
            raise ScxError(f"{self.table.name} holds no cell of the type {label!r}.", f"It holds: {known}.")
        rng = np.random.default_rng(cfg.seed)
        n, donors = min(cfg.cells, len(rows)), self.donors(rows)
        if donors is None or len(set(donors)) < 2:
            return np.sort(rng.choice(rows, size=n, replace=False))
        rows = rng.permutation(rows)
        turn_C = pd.Series(self.donors(rows)).groupby(self.donors(rows)).cumcount().to_numpy()
        return np.sort(rows[np.argsort(turn_C, kind="stable")[:n]])

    def consensus(
        self,
        label: str,
        *,
        answer: str | None = None,
        against: Sequence[str] | None = None,
        trace: TraceConfig = TRACE,
        cfg: ConsensusConfig = CONSENSUS,
        progress: Progress = silent,
        partial: Partial | None = None,
    ) -> Circuit:
        """The circuit of a cell type over many of its cells.

        `answer` is the model's label to explain (default: the type itself, or `answer_for` it). `partial` is
        given what is known so far (of two steps), cell by cell. Raises ScxError when the table has no such
        cells or the model no such answer.
        """
        rows = self.draw(label, cfg)
        plan = self.plan(answer or self.answer_for(label), against, trace.target, trace.token)
        if self.in_two_steps(cfg):
            return self._of_two_steps(label, rows, plan, trace, cfg, progress, partial)
        merged = self.merged(rows, plan, trace, cfg, progress, label)
        return self.combined(label, rows, plan, merged, trace, cfg)

    def _of_two_steps(
        self,
        label: str,
        rows: np.ndarray,
        plan: TargetPlan,
        trace: TraceConfig,
        cfg: ConsensusConfig,
        progress: Progress,
        partial: Partial | None = None,
    ) -> Circuit:
        merged = self.two_steps(rows, plan, trace, cfg, progress, partial).run()
        found = self.combined(label, rows, plan, merged, trace, cfg)
        way = "two steps: edges between features that the cells share, alone"
        return found._replace(provenance=found.provenance | {"consensus_way": way})

    def two_steps(
        self,
        rows: Sequence[int] | np.ndarray,
        plan: TargetPlan,
        trace: TraceConfig = TRACE,
        cfg: ConsensusConfig = CONSENSUS,
        progress: Progress = silent,
        partial: Partial | None = None,
        beside: Any = None,
    ) -> TwoSteps:
        """Many cells' circuits in two steps, each cell kept on disk; `beside` says what they are compared
        with, which decides on what is traced in them."""
        at = np.asarray(rows, dtype=np.int64)
        about = self.about({"trace": to_dict(trace), "consensus": to_dict(cfg)}, cells=at.tolist())
        about |= {"target": finished_target(self.lm, plan, None, 0.0)._asdict()}
        kept = KeptCells(about if beside is None else about | {"beside": beside})
        return TwoSteps(self, at, plan, trace, cfg, kept, progress, partial)

    def of_cells(
        self,
        rows: Sequence[int] | np.ndarray,
        answer: str,
        *,
        label: str | None = None,
        against: Sequence[str] | None = None,
        trace: TraceConfig = TRACE,
        cfg: ConsensusConfig = CONSENSUS,
        progress: Progress = silent,
    ) -> Circuit:
        """The circuit of cells that a person chose, whatever their types; `answer` is explained in all of
        them.

        `label`: the type that known markers are looked up for (default: the answer). The provenance says how
        many cells of which type were chosen. Raises ScxError for fewer than two, or a row that is not there.
        """
        chosen = np.unique(np.asarray(rows, dtype=np.int64))
        if len(chosen) < 2:
            raise ScxError(
                "A circuit of many cells takes two or more.", "Choose more cells, or trace one cell."
            )
        for row in chosen:
            self.check_row(int(row))
        plan = self.plan(answer, against, trace.target, trace.token)
        if self.in_two_steps(cfg):
            found = self._of_two_steps(label or answer, chosen, plan, trace, cfg, progress)
        else:
            merged = self.merged(chosen, plan, trace, cfg, progress, "chosen cells")
            found = self.combined(label or answer, chosen, plan, merged, trace, cfg)
        types = pd.Series(self.table.labels[chosen]).value_counts()
        by_type = {str(name) or "unlabelled": int(n) for name, n in types.items()}
        return found._replace(provenance=found.provenance | {"chosen_by_hand": by_type})

    def in_two_steps(self, cfg: ConsensusConfig) -> bool:
        """Whether a consensus with these settings is made in two steps."""
        facts = self.lm.facts
        return cfg.method == "two-steps" or (cfg.method == "auto" and is_large(facts.n_layers, facts.width))

    def combined(
        self,
        label: str,
        rows: np.ndarray,
        plan: TargetPlan,
        merged: Sequence[Merged],
        trace: TraceConfig = TRACE,
        cfg: ConsensusConfig = CONSENSUS,
    ) -> Circuit:
        """The consensus of circuits that are traced already, as `merged` gives them for these rows."""
        target = finished_target(self.lm, plan, None, 0.0)
        about = self.about({"trace": to_dict(trace), "consensus": to_dict(cfg)}, cells=[int(r) for r in rows])
        about |= {"cell_type": label, "ties": self.ties(rows)} | self.training_cells(rows)
        about |= self._said(label, self.encode(rows), plan.answer)
        found = combine(merged, target, cfg.min_share, cfg.seed, about, self.donors(rows))
        return self._with_markers(with_names(found, self.names), label)

    def _said(self, label: str, cells: Sequence[EncodedCell], answer: str) -> dict[str, Any]:
        """What the model says of the cells of a label, where an answer is explained: `whose` reads it."""
        if answer not in self.labels or not label:
            return {}
        given = predicted(self.scores(cells).sum(-1), self.labels)
        elsewhere = self.elsewhere(label, answer) if len(cells) > 1 else None
        return said(label, own_answer(self.table, self.labels, label), given, elsewhere)

    def elsewhere(self, label: str, answer: str) -> Elsewhere | None:
        """To how many cells of other types the model gives an answer: the rival of how often it gives it to
        the type's own. `ELSEWHERE_CELLS` are drawn, as many of each type as can be (a model of real size:
        `ELSEWHERE_LARGE`), the same for all questions, so that their scores are kept. So is the answer."""
        if (label, answer) not in self._elsewhere:
            self._elsewhere[label, answer] = self._asked_elsewhere(label, answer)
        return self._elsewhere[label, answer]

    def _asked_elsewhere(self, label: str, answer: str) -> Elsewhere | None:
        large = is_large(self.lm.facts.n_layers, self.lm.facts.width)
        others = [
            name
            for name in self.table.types
            if name != label and own_answer(self.table, self.labels, name) != answer
        ]
        if not others:
            return None
        most = ELSEWHERE_LARGE if large else ELSEWHERE_CELLS
        n, rng = max(1, most // len(self.table.types)), np.random.default_rng(0)
        rows: list[int] = []
        for name in self.table.types:  # the other answers' own types too, so that all questions draw the same
            drawn = rng.permutation(np.flatnonzero(self.table.labels == name))[:n].tolist()
            rows += drawn if name in others else []
        rows = rows[:: math.ceil(len(rows) / most)]  # of very many types not every one
        given = predicted(self.scores(self.encode(rows)).sum(-1), self.labels)
        return Elsewhere(sum(one == answer for one in given), len(rows), len(set(self.table.labels[rows])))

    def _with_markers(self, circuit: Circuit, label: str) -> Circuit:
        """Beside the circuit's count of known markers those of rankings that need no model."""
        return with_marker_counts(circuit, self.table, label, self.lm.sentence_config.n_genes)

    def training_cells(self, rows: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """For a provenance: how many (`k`) of these `n` cells the transcoders were trained on as well;
        nothing where the set does not say what it was trained on."""
        parts = (self.lm, self.transcoders, self.table)
        key = tuple(str(part.fingerprint) for part in parts)
        if key not in self._trained:
            self._trained[key] = training_rows(*parts)
        known = self._trained[key]
        if known is None:
            return {}
        return {TRAINING_CELLS: {"k": int(np.isin(rows, known).sum()), "n": len(rows)}}

    def ties(self, rows: np.ndarray) -> dict[str, float]:
        """How much of these cells' sentences the order of ties decides, see `Ties`."""
        return ties_of(self.table, rows, self.lm.sentence_config.n_genes)._asdict()

    def donors(self, rows: Sequence[int] | np.ndarray) -> list[str] | None:
        """The donor of each row, "" where it is not known; None where the table knows none."""
        return None if self.table.donors is None else [str(d) for d in self.table.donors[np.asarray(rows)]]

    def merged(
        self,
        rows: Sequence[int] | np.ndarray,
        plan: TargetPlan,
        trace: TraceConfig = TRACE,
        cfg: ConsensusConfig = CONSENSUS,
        progress: Progress = silent,
        label: str = "cells",
    ) -> list[Merged]:
        """The circuits of many cells with their positions merged: each cell's whole circuit, the prompts run
        in batches; of a large model, or where `cfg` says so, in two steps."""
        if self.in_two_steps(cfg):
            return self.two_steps(rows, plan, trace, cfg, progress).run()
        cells = self.encode(rows)
        plans, found = self.plans_in_cells(cells, plan), list[Merged]()

        def one(number: int, frozen: FrozenPrompt) -> Merged:
            in_cell, called = plans[number]
            graph = graph_of(frozen, in_cell, cfg.nodes, cfg.choice, called)
            return merged_graph(graph, cells[number], trace)

        prompts = [plan.prompt_ids(cell) for cell in cells]
        for merged in trace_many(self.rep, prompts, one, plan.n_logits):
            found.append(merged)
            progress(len(found), len(cells), f"{label}: cell {len(found)} of {len(cells)}")
        return found

    def check_row(self, row: int) -> None:
        """Raise ScxError when the table has no such row."""
        if not 0 <= row < self.table.n_cells:
            raise ScxError(
                f"There is no cell {row} in {self.table.name}.",
                f"Rows run from 0 to {self.table.n_cells - 1}.",
            )

    def about(self, config: dict, **extra) -> dict:
        """The provenance of what this tracer makes."""
        return provenance(
            config=config | {"sentences": to_dict(self.lm.sentence_config), "lead": self.lead},
            data=self.table,
            model=self.lm,
            transcoders=self.transcoders,
            validation=self.standing.to_json() if self.standing else {"read": UNKNOWN},
            **extra,
        )


def own_answer(table: CellTable, labels: Sequence[str], label: str) -> str:
    """The model's answer for a type of the table as the mapping of labels says, the label itself where the
    model has that very name and the mapping does not speak of it, else ""."""
    answer_of = table.answer_of or {}
    return answer_of.get(label, label if label in labels and label not in answer_of else "")


def make_tracer(
    lm: Language,
    transcoders: TranscoderSet,
    table: CellTable,
    names: NameBook | None = None,
    standing: Standing | None = None,
) -> Tracer:
    """Put a model, its transcoders and cells together; `names` are those of an atlas of the same features,
    `standing` is what their validation says.

    Raises ScxError when they do not fit.
    """
    table = with_answers(lm, table)
    labels = answer_labels(lm, table)
    if len(labels) < 2:
        raise ScxError(
            f"{table.name} has fewer than two cell types to tell apart.", "Choose another label column."
        )
    return Tracer(lm, transcoders, table, replacement(lm, transcoders), labels, names, standing)

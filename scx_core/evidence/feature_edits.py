"""Edits of features in the real model: ablation, steering and patching over doses (method §9).

The model is its own: what the transcoder misses stays. At an edited layer the MLP writes
MLP(x) + Σ over edited features (z' − z) W_dec, with z the activation at the x of this very run (an edit of an
earlier layer is felt). The modes, with dose α:

| mode | z' | at α = 1 | at α = 0 |
|---|---|---|---|
| ablate | (1 − α) z | the feature is off | untouched |
| steer | z + α × maximum | as much again as its maximum is added along its decoder direction | untouched |
| set | α × maximum | held at its maximum | the feature is off |
| patch | z + α (z of the source − z) | that of the source, at the same place of the prompt | untouched |

The maximum is over all tokens of the measured and the reference cells in the unedited model. A source is the
mean over cells of another type, or one cell; places are those of ablation_reference.py (each token of the
prompt's words is one, all gene tokens are one). Three measures of each edited cell: the target in its unit,
the log-odds of the label over whole answers (nats), and whether the label is the model's answer. Beside each
edit stand random features, drawn one for one: same layer, about the same activation mass.
Legend: B cells, Q columns of a tree batch (prompt and tree), M nodes of the tree, V vocabulary, L layers,
F features, U edited features of a layer, S places, K answers, A doses, D draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from scx_core.attribution.target import TargetPlan, unit_of
from scx_core.circuits import ConsensusConfig, TraceConfig, Tracer
from scx_core.circuits.feature_names import name_in, sourced
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.evidence.ablation_reference import InterventionConfig, Reference, reference_of
from scx_core.evidence.interventions import encoder_of
from scx_core.evidence.knockouts.measured_effects import target_at
from scx_core.evidence.smallest.faithfulness import matched_orders
from scx_core.evidence.smallest.smallest_circuit import reference_rows, split_cells
from scx_core.language import answers_of, linear, mlp_io
from scx_core.language.answer_tree import answer_scores, answer_tree, capped, read_tree, tree_batch
from scx_core.language.hooks import captured_mlps
from scx_core.metrics import active
from scx_core.runs.micro_batch import MicroBatch
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import EncodedCell, pad_left
from scx_core.statistics.hypothesis_tests import p_values, q_values
from scx_core.statistics.intervals import wilson
from scx_core.statistics.resampling import MeanInterval, Sampling, mean_interval, one_group

MODES = ("ablate", "steer", "set", "patch")
DOSES = {
    "ablate": (0.5, 1.0),
    "steer": (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0),
    "set": (-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 4.0),
    "patch": (0.5, 1.0),
}
WHERE = ("all", "active", "answer")


@dataclass(frozen=True)
class EditConfig:
    """Which features are edited, where, in which cells, and beside what."""

    top: int = option(5, "Strongest features of the circuit that are edited together", minimum=1)
    where: str = option(
        "all",
        "Edit at all tokens, at those where the feature is active, or from the last token of the prompt on",
        choices=WHERE,
    )
    circuit_cells: int = option(20, "Cells of the type whose circuit chooses the features", minimum=2)
    measured: int = option(12, "Other cells of the type that are edited", minimum=2)
    reference_cells: int = option(24, "Cells of other types for maxima and activation mass", minimum=1)
    draws: int = option(10, "Random groups of the same layers and activation mass", minimum=2)
    seed: int = option(0, "Seed that draws cells, random features and the bootstrap", minimum=0)


EDITS, TRACE = EditConfig(), TraceConfig()


class Activity(NamedTuple):
    """Over all tokens of some cells in the unedited model: sum of |activation| and largest activation of each
    feature, float64 [L, F], and the share of tokens where it is active."""

    mass_LF: np.ndarray
    maximum_LF: np.ndarray
    frequency_LF: np.ndarray


@torch.no_grad()
def activity_of(tracer: Tracer, cells: Sequence[EncodedCell], batch: int = 16) -> Activity:
    """How active every feature is in these cells' prompts."""
    lm, coders = tracer.lm, tracer.rep.transcoders
    shape = (len(coders.layers), coders.n_features)
    mass_LF, maximum_LF, fires_LF, tokens = np.zeros(shape), np.zeros(shape), np.zeros(shape), 0

    def attempt(some: slice) -> tuple[int, np.ndarray]:
        """Tokens of some cells; mass, tokens where active and maximum by layer, [3, L, F]."""
        padded = pad_left([cell.ids for cell in cells[some]], lm.pad_id)
        ids_BT, mask_BT = (torch.from_numpy(x).to(lm.device) for x in (padded.ids_BT, padded.mask_BT))
        real_BT, found_3LF = mask_BT.bool(), np.zeros((3, *shape))
        for layer, x_BTd in enumerate(mlp_io(lm, ids_BT, mask_BT).inputs):
            z_NF = coders.layers[layer].encode(x_BTd[real_BT])
            found_3LF[0, layer] = z_NF.abs().sum(0).double().cpu().numpy()
            found_3LF[1, layer] = active(z_NF).sum(0).cpu().numpy()
            found_3LF[2, layer] = z_NF.max(0).values.double().cpu().numpy()
        return int(real_BT.sum()), found_3LF

    for n, (some_mass_LF, some_fires_LF, highest_LF) in MicroBatch().pieces(attempt, len(cells), batch):
        tokens += n
        mass_LF += some_mass_LF
        fires_LF += some_fires_LF
        maximum_LF = np.maximum(maximum_LF, highest_LF)
    return Activity(mass_LF, maximum_LF, fires_LF / max(1, tokens))


class Edit(NamedTuple):
    """Features (layer, feature) [n, 2], edited together with one dose. `unit_n`: the maximum of each, which
    steer and set count in; `source` is what patch takes from."""

    nodes: np.ndarray
    mode: str
    dose: float
    unit_n: np.ndarray | None = None
    source: Reference | None = None


class Edited(NamedTuple):
    """Of each cell under one edit: the target, log-odds of the label (nats), whether it is the answer; and
    where asked for the mean activation of every feature over the prompt's tokens, [B, L, F]."""

    target_B: np.ndarray
    log_odds_B: np.ndarray
    called_B: np.ndarray
    activation_BLF: np.ndarray | None = None


class EditedModel:
    """Some cells of a tracer and one target, ready for edits of features in the real model."""

    def __init__(
        self,
        tracer: Tracer,
        plan: TargetPlan,
        rows: Sequence[int] | np.ndarray,
        where: str = "all",
        batch: int = 16,
    ) -> None:
        tracer.transcoders.need_own_decoders("Edits of features")
        if plan.answer not in tracer.labels or plan.kind == "feature":
            raise ScxError(
                "An edit is measured on an answer of the model.", "Choose an answer as the target."
            )
        if where not in WHERE:
            raise ScxError(f"Features cannot be edited at {where[:40]!r}.", f"Use one of {', '.join(WHERE)}.")
        self.tracer, self.plan, self.where, self.batch = tracer, plan, where, batch
        self._micro = MicroBatch()
        self.cells = tracer.encode(rows)
        self.tree = answer_tree(answers_of(tracer.lm, tracer.labels, tracer.lead), [plan.forced])
        self._value = target_at(self.tree, plan)
        self._own = tracer.labels.index(plan.answer)
        self.before = self.edited(None)

    def edited(self, edit: Edit | None, activations: bool = False) -> Edited:
        """The cells under an edit, or as they are."""

        def attempt(some: slice) -> Edited:
            return self._batch(self.cells[some], edit, activations)

        parts = list(self._micro.pieces(attempt, len(self.cells), self.batch))
        means = [part.activation_BLF for part in parts if part.activation_BLF is not None]
        return Edited(
            np.concatenate([part.target_B for part in parts]),
            np.concatenate([part.log_odds_B for part in parts]),
            np.concatenate([part.called_B for part in parts]),
            np.concatenate(means) if means else None,
        )

    @torch.no_grad()
    def _batch(self, cells: Sequence[EncodedCell], edit: Edit | None, activations: bool) -> Edited:
        """One forward pass of some cells, the tree of all answers behind each."""
        lm, tree = self.tracer.lm, self.tree
        read = tree_batch(lm, [cell.ids for cell in cells], tree)
        kept: dict[int, torch.Tensor] = {}
        added = {} if edit is None else self._added(cells, edit, read.real_RT)
        with _written_into(lm, added), _read_from(lm, kept if activations else None):
            hidden_RQd = read_tree(lm, read)
        logits_RMV = capped(lm, lm.model.get_output_embeddings()(hidden_RQd[:, -len(tree.token_M) :]))
        score_RK = answer_scores(logits_RMV, tree).cpu().numpy()
        others_RK = np.delete(score_RK, self._own, 1)
        log_odds_R = score_RK[:, self._own] - np.logaddexp.reduce(others_RK, 1)
        target_R = self._value(logits_RMV).double().cpu().numpy()
        called_R = score_RK.argmax(1) == self._own
        means = self._means(kept, read.real_RT) if activations else None
        return Edited(target_R, log_odds_R, called_R, means)

    def _means(self, kept: dict[int, torch.Tensor], real_RT: torch.Tensor) -> np.ndarray:
        """Mean activation over the tokens of each prompt, [R, L, F]."""
        coders, found = self.tracer.rep.transcoders.layers, []
        for layer, coder in enumerate(coders):
            z_RTF = coder.encode(kept[layer][:, : real_RT.shape[1]]) * real_RT[:, :, None]
            found.append(z_RTF.sum(1) / real_RT.sum(1)[:, None])
        return torch.stack(found, 1).double().cpu().numpy()

    def _added(self, cells: Sequence[EncodedCell], edit: Edit, real_RT: torch.Tensor) -> dict[int, Any]:
        """By layer: what is added to the MLP's output, a function of what it reads."""
        added = {}
        n_tree = len(self.tree.token_M) - 1
        real_RQ = torch.nn.functional.pad(real_RT, (0, n_tree), value=True)
        if self.where == "answer":
            real_RQ[:, : real_RT.shape[1] - 1] = False
        place_RQ = None
        if edit.source is not None:
            place_RQ = self._places(cells, edit.source, real_RT.shape[1])
        for layer in np.unique(edit.nodes[:, 0]).tolist():
            at = np.flatnonzero(edit.nodes[:, 0] == layer)
            added[layer] = self._change(layer, at, edit, real_RQ, place_RQ)
        return added

    def _change(
        self, layer: int, at: np.ndarray, edit: Edit, real_RQ: torch.Tensor, place_RQ: torch.Tensor | None
    ) -> Any:
        lm, coder = self.tracer.lm, self.tracer.rep.transcoders.layers[layer]
        feature_U = torch.from_numpy(edit.nodes[at, -1]).to(lm.device)
        encode, decoder_Ud, dose = encoder_of(coder, feature_U), coder.W_dec_Fd[feature_U], edit.dose
        unit_U = torch.zeros(len(at), dtype=lm.dtype, device=lm.device)
        if edit.unit_n is not None:
            unit_U = torch.from_numpy(edit.unit_n[at]).to(lm.device, lm.dtype)
        source_RQU = None
        if edit.source is not None and place_RQ is not None:
            source_RQU = edit.source.mean_LSF[layer][:, feature_U][place_RQ]

        def change(x_RQd: torch.Tensor) -> torch.Tensor:
            z_RQU = encode(x_RQd)
            if edit.mode == "ablate":
                moved_RQU = -dose * z_RQU
            elif edit.mode == "steer":
                moved_RQU = (dose * unit_U).expand_as(z_RQU)
            elif edit.mode == "set":
                moved_RQU = dose * unit_U - z_RQU
            else:
                assert source_RQU is not None  # patch: an edit that has a source
                moved_RQU = dose * (source_RQU - z_RQU)
            if self.where == "active":
                moved_RQU = moved_RQU * active(z_RQU)
            return linear(moved_RQU * real_RQ[:, :, None], decoder_Ud.T)

        return change

    def _places(self, cells: Sequence[EncodedCell], source: Reference, width: int) -> torch.Tensor:
        """The place of each column; nodes of the tree are where the answer's tokens of their depth are."""
        depth = self.tree.depth_M[1:]
        deepest = int(depth.max(initial=0))
        rows = []
        for cell in cells:
            place_T = source.places.of(cell, deepest)
            prompt_T, answer_T = place_T[: len(cell.ids)], place_T[len(cell.ids) :]
            padding = np.zeros(width - len(cell.ids), dtype=np.int64)
            rows.append(np.concatenate([padding, prompt_T, answer_T[depth - 1]]))
        return torch.from_numpy(np.stack(rows)).to(self.tracer.lm.device)


@contextmanager
def _written_into(lm: Any, added: dict[int, Any]) -> Iterator[None]:
    """While active, each named layer's MLP puts out what it would, and `added[layer](x)` on top."""

    def hook_of(change: Any) -> Any:
        def hook(_module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            return output + change(args[0]).to(output.dtype)

        return hook

    handles = [
        lm.part(layer, "mlp").register_forward_hook(hook_of(change)) for layer, change in added.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _read_from(lm: Any, kept: dict[int, torch.Tensor] | None) -> Iterator[None]:
    """While active, `kept` is filled with what every MLP reads."""
    if kept is None:
        yield
        return
    with captured_mlps(lm) as io:
        yield
        kept.update(enumerate(io.inputs))


class Effect(NamedTuple):
    """What an edit does, in means over cells with intervals: change of the target and of the log-odds (nats),
    and the share of cells that the model gives the label."""

    target: MeanInterval
    log_odds: MeanInterval
    called: MeanInterval


class Dose(NamedTuple):
    """One dose: the features' effect, the mean effect of the random groups (target, log-odds, called), least
    and most of their log-odds, and `ahead`, change of the log-odds less the random groups' mean by cell,
    with p (signs turned, or t over donors) and q over the doses. `beyond`: how many random groups change the
    log-odds less in absolute value."""

    dose: float
    effect: Effect
    random: Effect
    random_least: float
    random_most: float
    ahead: MeanInterval
    beyond: int
    p: float
    q: float | None = None


@shown
class FeatureEdits(NamedTuple):
    """A dose curve. `features`: (layer, feature, name, maximum, share of tokens where active), edited
    together; `before`: the untouched cells (target, log-odds, share called)."""

    label: str
    answer: str
    target: str
    unit: str
    mode: str
    where: str
    source: str | None
    features: tuple[tuple[int, int, str | None, float, float], ...]
    n: int
    units: str
    n_units: int
    before: Effect
    doses: tuple[Dose, ...]
    draws: int
    cells: dict[str, tuple[int, ...]]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"<FeatureEdits of {self.label!r}: {self.mode} {counted(len(self.features), 'feature')}, "
            f"{counted(len(self.doses), 'dose')}, {counted(self.n, 'cell')}>"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        keys = ("layer", "feature", "name", "maximum", "frequency")
        features = [dict(zip(keys, one, strict=True)) for one in self.features]
        doses = [
            one._asdict()
            | {
                "effect": _plain(one.effect),
                "random": _plain(one.random),
                "ahead": one.ahead._asdict(),
            }
            for one in self.doses
        ]
        return self._asdict() | {"features": features, "before": _plain(self.before), "doses": doses}


def _plain(effect: Effect) -> dict[str, Any]:
    return {name: value._asdict() for name, value in effect._asdict().items()}


def edit_features(
    tracer: Tracer,
    label: str,
    *,
    mode: str = "steer",
    features: Sequence[tuple[int, int]] | None = None,
    doses: Sequence[float] | None = None,
    source: str | int | None = None,
    answer: str | None = None,
    rows: Sequence[int] | None = None,
    trace: TraceConfig = TRACE,
    cfg: EditConfig = EDITS,
    progress: Progress = silent,
) -> FeatureEdits:
    """Edit features together in cells of a type, over doses, beside random features.

    `features` (layer, feature): default the `cfg.top` most influential of the type's circuit, made from other
    cells. `source`, for patching: a type of the table, or the row of one cell. `answer` is the label whose
    log-odds are read (default: that of the type). Raises ScxError for an unknown mode, feature or source.
    """
    if mode not in MODES:
        raise ScxError(f"There is no edit {mode[:40]!r}.", f"Use one of {', '.join(MODES)}.")
    split = split_cells(tracer, label, cfg.circuit_cells, cfg.measured, cfg.reference_cells, cfg.seed)
    plan = tracer.plan(answer or tracer.answer_for(label), None, trace.target, trace.token)
    nodes = chosen_nodes(tracer, label, plan, features, len(split.search), trace, cfg.top, cfg.seed, progress)
    measured = split.unseen if rows is None else np.asarray(rows)
    activity = activity_of(tracer, tracer.encode(np.concatenate([measured, split.reference])))
    taken_from = _source(tracer, plan, label, source, cfg) if mode == "patch" else None
    model = EditedModel(tracer, plan, measured, cfg.where)
    groups = random_groups(nodes, activity, cfg.draws, cfg.seed)
    sampling = one_group(len(measured), cfg.seed, tracer.donors(measured))
    wanted = tuple(doses or DOSES[mode])

    def edit_of(group: np.ndarray, dose: float) -> Edit:
        return Edit(group, mode, dose, activity.maximum_LF[group[:, 0], group[:, 1]], taken_from)

    curve = _dose_curve(model, (nodes, *groups), wanted, edit_of, sampling, cfg.seed, progress)
    config = {"edit": to_dict(cfg) | {"mode": mode, "doses": list(wanted)}, "trace": to_dict(trace)}
    return FeatureEdits(
        label=label,
        answer=plan.answer or "",
        target=plan.label,
        unit=unit_of(plan.kind),
        mode=mode,
        where=cfg.where,
        source=None if mode != "patch" else str(source if source is not None else f"all but {label}"),
        features=_described(tracer, nodes, activity),
        n=len(measured),
        units=sampling.kind,
        n_units=sampling.units_G[0],
        before=_untouched(model.before, sampling),
        doses=curve,
        draws=len(groups),
        cells={
            "circuit": tuple(split.search.tolist()) if features is None else (),
            "measured": tuple(measured.tolist()),
            "reference": tuple(split.reference.tolist()),
        },
        provenance=sourced(tracer.about(config, seed=cfg.seed, intervals=sampling.note), tracer.names),
    )


def _dose_curve(
    model: EditedModel,
    groups: Sequence[np.ndarray],
    doses: Sequence[float],
    edit_of: Callable[[np.ndarray, float], Edit],
    sampling: Sampling,
    seed: int,
    progress: Progress,
) -> tuple[Dose, ...]:
    """The edit at every dose, of the features (the first of the groups) beside random ones; q over doses."""
    found = []
    for done, dose in enumerate(doses):
        own, *random = (model.edited(edit_of(group, dose)) for group in groups)
        found.append(_dose(dose, model.before, own, random, sampling, seed))
        progress(done + 1, len(doses), f"dose {dose:g}")
    q = q_values(np.array([one.p for one in found])).tolist()
    return tuple(one._replace(q=q_one) for one, q_one in zip(found, q, strict=True))


def _described(
    tracer: Tracer, nodes: np.ndarray, activity: Activity
) -> tuple[tuple[int, int, str | None, float, float], ...]:
    """Layer, feature, name, maximum and share of tokens where it is active, of each."""
    at = (nodes[:, 0], nodes[:, 1])
    return tuple(
        (layer, feature, name_in(tracer.names, layer, feature), float(most), float(often))
        for (layer, feature), most, often in zip(
            nodes.tolist(), activity.maximum_LF[at], activity.frequency_LF[at], strict=True
        )
    )


def _untouched(before: Edited, sampling: Sampling) -> Effect:
    """The cells as they are: means, not changes."""
    return Effect(
        mean_interval(before.target_B, sampling),
        mean_interval(before.log_odds_B, sampling),
        share_called(before.called_B, sampling),
    )


def share_called(called_B: np.ndarray, sampling: Sampling) -> MeanInterval:
    """Share of cells with this answer: over cells with Wilson's interval, which is never of no width; over
    donors, or of means over draws, with that of a mean, inside 0 to 1."""
    counts = np.asarray(called_B, dtype=np.float64)
    if sampling.kind == "cells" and np.isin(counts, (0.0, 1.0)).all():
        return MeanInterval(float(counts.mean()), *wilson(int(counts.sum()), len(counts)))
    mean, low, high = mean_interval(counts, sampling)
    return MeanInterval(mean, max(0.0, low), min(1.0, high))


def _dose(
    dose: float, before: Edited, own: Edited, random: Sequence[Edited], sampling: Sampling, seed: int
) -> Dose:
    """One point of the curve."""
    random_DB = np.stack([one.log_odds_B - before.log_odds_B for one in random])
    own_B = own.log_odds_B - before.log_odds_B
    gap_B = own_B - random_DB.mean(0)

    def effect(target_B: np.ndarray, log_odds_B: np.ndarray, called_B: np.ndarray) -> Effect:
        return Effect(
            mean_interval(target_B - before.target_B, sampling),
            mean_interval(log_odds_B - before.log_odds_B, sampling),
            share_called(called_B, sampling),
        )

    target_B, log_odds_B, called_B = (
        np.mean([getattr(one, name) for one in random], axis=0) for name in Edited._fields[:3]
    )
    each_D = random_DB.mean(1)
    return Dose(
        dose,
        effect(own.target_B, own.log_odds_B, own.called_B),
        effect(target_B, log_odds_B, called_B),
        float(each_D.min()),
        float(each_D.max()),
        mean_interval(gap_B, sampling),
        int((np.abs(each_D) < abs(own_B.mean())).sum()),
        float(p_values(sampling, gap_B[:, None], seed)[0]),
    )


def chosen_nodes(
    tracer: Tracer,
    label: str,
    plan: TargetPlan,
    features: Sequence[tuple[int, int]] | None,
    cells: int,
    trace: TraceConfig,
    top: int,
    seed: int,
    progress: Progress = silent,
) -> np.ndarray:
    """The features given, checked, or the most influential of the type's consensus circuit, [n, 2]."""
    coders = tracer.rep.transcoders
    if features is not None:
        for layer, feature in features:
            if not (0 <= layer < len(coders.layers) and 0 <= feature < coders.n_features):
                raise ScxError(
                    f"There is no feature {layer}:{feature}.",
                    f"There are layers 0 to {len(coders.layers) - 1}, features 0 to {coders.n_features - 1}.",
                )
        if len(set(features)) < len(features) or not features:
            raise ScxError("A feature is given twice, or none.", "Give each feature once.")
        return np.array(features, dtype=np.int64)
    circuit = tracer.consensus(
        label, answer=plan.answer, trace=trace, cfg=ConsensusConfig(cells=cells, seed=seed), progress=progress
    )
    found = [node for node in circuit.nodes if node.kind == "feature"]
    if not found:
        raise ScxError("The circuit holds no feature.", "Name features yourself.")
    found.sort(key=lambda node: (-node.influence, node.id))
    return np.array([(node.layer, node.feature) for node in found[:top]], dtype=np.int64)


def random_groups(nodes: np.ndarray, activity: Activity, draws: int, seed: int) -> list[np.ndarray]:
    """Groups of random features, each of the layer and about the activation mass of one of `nodes` [n, 2]."""
    layers, size = activity.mass_LF.shape
    members = nodes[:, 0] * size + nodes[:, 1]
    drawn_DM = matched_orders(members, activity.mass_LF.ravel(), layers, draws, seed)
    found = [np.stack(np.divmod(drawn_M[drawn_M >= 0], size), 1) for drawn_M in drawn_DM]
    if not all(map(len, found)):
        raise ScxError("No other feature of these layers is active.", "Choose features of another layer.")
    return found


def _source(
    tracer: Tracer, plan: TargetPlan, label: str, source: str | int | None, cfg: EditConfig
) -> Reference:
    """Activations that patching takes: means over cells of a type (default: of all others), or one cell's."""
    table = tracer.table
    if source is None:
        rows = reference_rows(tracer, label, cfg.reference_cells, cfg.seed)
    elif isinstance(source, int):
        tracer.check_row(source)
        rows = np.array([source])
    elif source in table.types:
        own = np.flatnonzero(table.labels == source)
        rows = np.sort(np.random.default_rng(cfg.seed).permutation(own)[: cfg.reference_cells])
    else:
        raise ScxError(
            f"{table.name} holds no cell of the type {source[:60]!r}.", f"It holds: {', '.join(table.types)}."
        )
    how = InterventionConfig(keep_errors=True)
    return reference_of(tracer.lm, tracer.rep.transcoders, plan, tracer.encode(rows), how)

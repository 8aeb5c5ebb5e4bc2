"""Redundancy: joint next to the sum of single ablations, and what takes over (method §9).

1. The circuit's strongest features are ablated in the real model (feature_edits.py), each alone and all
   together; its strongest genes are taken out of the sentence in the same two ways (measured_effects.py).
   `gap` is joint less the sum of singles: above 0 they stand in for each other (none is missed alone),
   below 0 their effects saturate. Beside them random features of the same
   layers and activation, and random genes of the same ranks.
2. What takes over: on the cells that made the circuit, features of later layers are ranked by how much their
   mean activation rises when the strongest features are off, times the length of their decoder row; the first
   `risen` of them are R. In other cells R is ablated twice, in the untouched model and in the one without the
   strongest features T. `takeover` = [v(−T) − v(−T−R)] − [v − v(−R)], with v the log-odds of the label: what
   R carries once T is gone, less what it carried before. The null: the same with matched random T, each with
   its own R, chosen in the same way.
Legend: B cells, L layers, F features, D draws, S sets of genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scx_core.attribution.target import TargetPlan
from scx_core.circuits import Circuit, ConsensusConfig, TraceConfig, Tracer
from scx_core.circuits.feature_names import name_in, sourced
from scx_core.display import counted, shown
from scx_core.errors import ScxError
from scx_core.evidence.feature_edits import Edit, EditedModel, activity_of, random_groups
from scx_core.evidence.knockouts.measured_effects import joint_drops
from scx_core.evidence.rankings.rankers import rank_matched
from scx_core.evidence.smallest.smallest_circuit import split_cells
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.hypothesis_tests import p_values, q_values
from scx_core.statistics.resampling import MeanInterval, Sampling, mean_interval, one_group


@dataclass(frozen=True)
class RedundancyConfig:
    """How many features and genes are taken away, in which cells, and beside what."""

    top: int = option(5, "Strongest features of the circuit", minimum=2)
    genes: int = option(5, "Strongest genes of the circuit that speak for the answer", minimum=2)
    risen: int = option(10, "Features that rise most when the strongest are off", minimum=1)
    circuit_cells: int = option(20, "Cells of the type that the circuit is made from", minimum=2)
    measured: int = option(12, "Other cells of the type in which all is measured", minimum=2)
    reference_cells: int = option(24, "Cells of other types for the activation mass", minimum=1)
    draws: int = option(10, "Random groups of features, and of genes", minimum=2)
    seed: int = option(0, "Seed that draws cells, random groups and the bootstrap", minimum=0)


REDUNDANCY, TRACE = RedundancyConfig(), TraceConfig()


class JointAndSingles(NamedTuple):
    """Drops of the label's log-odds (nats, mean over cells with 95% interval): of each alone, their sum, all
    together, and `gap` = joint − sum with its p (signs turned, or t over donors) and q over the table."""

    names: tuple[str, ...]
    singles: tuple[MeanInterval, ...]
    total: MeanInterval
    joint: MeanInterval
    gap: MeanInterval
    p: float
    q: float | None = None


class Risen(NamedTuple):
    """A feature of a later layer that rises: mean activation over the prompt's tokens before and after, in
    the measured cells, and the share of them in which it rises."""

    layer: int
    feature: int
    name: str | None
    before: MeanInterval
    rise: MeanInterval
    share: float


@shown
class Redundancy(NamedTuple):
    """The tables by name (features, random features, genes, random genes), the risen features, and
    `takeover` of the circuit, of random groups (mean, least, most of their means) and the difference."""

    label: str
    answer: str
    target: str
    n: int
    units: str
    n_units: int
    tables: dict[str, JointAndSingles]
    risen: tuple[Risen, ...]
    takeover: MeanInterval
    random: MeanInterval
    random_least: float
    random_most: float
    ahead: MeanInterval
    p: float
    draws: int
    cells: dict[str, tuple[int, ...]]
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Redundancy of {self.label!r}: {counted(self.n, 'cell')}, p {self.p:.2g}>"

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        tables = {name: _table_json(one) for name, one in self.tables.items()}
        risen = [
            one._asdict() | {"before": one.before._asdict(), "rise": one.rise._asdict()} for one in self.risen
        ]
        means = {name: getattr(self, name)._asdict() for name in ("takeover", "random", "ahead")}
        return self._asdict() | means | {"tables": tables, "risen": risen}


def _table_json(one: JointAndSingles) -> dict[str, Any]:
    means = {name: getattr(one, name)._asdict() for name in ("total", "joint", "gap")}
    return one._asdict() | means | {"singles": [single._asdict() for single in one.singles]}


def redundancy_of(
    tracer: Tracer,
    label: str,
    *,
    answer: str | None = None,
    trace: TraceConfig = TRACE,
    cfg: RedundancyConfig = REDUNDANCY,
    progress: Progress = silent,
) -> Redundancy:
    """Joint next to single ablations of a type's strongest features and genes, and what takes over.

    Raises ScxError for too few cells, or a circuit with fewer than two features or genes for the answer.
    """
    split = split_cells(tracer, label, cfg.circuit_cells, cfg.measured, cfg.reference_cells, cfg.seed)
    plan = tracer.plan(answer or tracer.answer_for(label), None, trace.target, trace.token)
    consensus = ConsensusConfig(cells=len(split.search), seed=cfg.seed)
    circuit = tracer.consensus(label, answer=plan.answer, trace=trace, cfg=consensus, progress=progress)
    nodes, genes, places = _strongest(circuit, cfg)
    sampling = one_group(len(split.unseen), cfg.seed, tracer.donors(split.unseen))
    activity = activity_of(tracer, tracer.encode(np.concatenate([split.unseen, split.reference])))
    groups = random_groups(nodes, activity, cfg.draws, cfg.seed)
    made, seen = (EditedModel(tracer, plan, rows) for rows in (split.search, split.unseen))
    tables = _feature_tables(tracer, seen, nodes, groups, sampling, cfg.seed, progress)
    tables |= _gene_tables(tracer, plan, split.unseen, genes, places, sampling, cfg)
    q = q_values(np.array([one.p for one in tables.values()])).tolist()
    tables = {name: one._replace(q=q_one) for (name, one), q_one in zip(tables.items(), q, strict=True)}
    own_B, risen = _takeover(tracer, made, seen, nodes, cfg.risen)
    random = []
    for done, group in enumerate(groups):
        progress(done, len(groups), "what takes over: random groups")
        random.append(_takeover(tracer, made, seen, group, cfg.risen)[0])
    random_DB = np.stack(random)
    gap_B = own_B - random_DB.mean(0)
    return Redundancy(
        label,
        plan.answer or "",
        plan.label,
        len(split.unseen),
        sampling.kind,
        sampling.units_G[0],
        tables,
        _risen(tracer, seen, nodes, risen, sampling),
        mean_interval(own_B, sampling),
        mean_interval(random_DB.mean(0), sampling),
        float(random_DB.mean(1).min()),
        float(random_DB.mean(1).max()),
        mean_interval(gap_B, sampling),
        float(p_values(sampling, gap_B[:, None], cfg.seed)[0]),
        len(groups),
        {
            "circuit": tuple(split.search.tolist()),
            "measured": tuple(split.unseen.tolist()),
            "reference": tuple(split.reference.tolist()),
        },
        sourced(
            tracer.about(
                {"redundancy": to_dict(cfg), "trace": to_dict(trace)},
                seed=cfg.seed,
                intervals=sampling.note,
            ),
            tracer.names,
        ),
    )


def _strongest(circuit: Circuit, cfg: RedundancyConfig) -> tuple[np.ndarray, list[str], dict[str, float]]:
    """The circuit's strongest features [n, 2], its strongest genes for the answer, and all genes' ranks."""
    features = [node for node in circuit.nodes if node.kind == "feature"]
    features.sort(key=lambda node: (-node.influence, node.id))
    genes = sorted(circuit.genes, key=lambda gene: (-gene.effect, gene.gene))
    positive = [gene.gene for gene in genes if gene.effect > 0][: cfg.genes]
    if len(features) < 2 or len(positive) < 2:
        raise ScxError(
            f"The circuit has {len(features)} features and {len(positive)} genes for the answer.",
            "Two of each are needed: take another type, or more cells.",
        )
    nodes = np.array([(node.layer, node.feature) for node in features[: cfg.top]], dtype=np.int64)
    return nodes, positive, {gene.gene: gene.rank for gene in circuit.genes}


def _joint(
    names: Sequence[str], single_nB: np.ndarray, joint_B: np.ndarray, sampling: Sampling, seed: int
) -> JointAndSingles:
    gap_B = joint_B - single_nB.sum(0)
    return JointAndSingles(
        tuple(names),
        tuple(mean_interval(one_B, sampling) for one_B in single_nB),
        mean_interval(single_nB.sum(0), sampling),
        mean_interval(joint_B, sampling),
        mean_interval(gap_B, sampling),
        float(p_values(sampling, gap_B[:, None], seed)[0]),
    )


def _off(model: EditedModel, nodes: np.ndarray) -> np.ndarray:
    """Log-odds of the label without these features, [B]."""
    return model.edited(Edit(nodes, "ablate", 1.0)).log_odds_B


def _feature_tables(
    tracer: Tracer,
    seen: EditedModel,
    nodes: np.ndarray,
    groups: Sequence[np.ndarray],
    sampling: Sampling,
    seed: int,
    progress: Progress,
) -> dict[str, JointAndSingles]:
    """Of the strongest features, and of random groups (means over the draws, feature by feature)."""
    before_B = seen.before.log_odds_B
    drops = []
    for done, group in enumerate([nodes, *groups]):
        progress(done, len(groups) + 1, "features alone and together")
        single_nB = np.stack([before_B - _off(seen, group[i : i + 1]) for i in range(len(group))])
        drops.append((single_nB, before_B - _off(seen, group)))
    names = [_named(tracer, layer, feature) for layer, feature in nodes.tolist()]
    whole = [(single_nB, joint_B) for single_nB, joint_B in drops[1:] if len(single_nB) == len(nodes)]
    found = {"features": _joint(names, *drops[0], sampling, seed)}
    if whole:
        single_nB, joint_B = (np.mean([pair[k] for pair in whole], axis=0) for k in (0, 1))
        like = [f"like {name}" for name in names]
        found["random features"] = _joint(like, single_nB, joint_B, sampling, seed)
    return found


def _named(tracer: Tracer, layer: int, feature: int) -> str:
    name = name_in(tracer.names, layer, feature)
    return f"L{layer}·{feature}" + (f" {name}" if name else "")


def _gene_tables(
    tracer: Tracer,
    plan: TargetPlan,
    rows: np.ndarray,
    genes: Sequence[str],
    places: dict[str, float],
    sampling: Sampling,
    cfg: RedundancyConfig,
) -> dict[str, JointAndSingles]:
    """Of the strongest genes, and of random genes of the same ranks (means over the draws)."""
    rng = np.random.default_rng(cfg.seed)
    lists = [list(genes), *(rank_matched(places, genes, rng) for _ in range(cfg.draws))]
    lists = [one for one in lists if len(one) == len(genes)]
    sets = [part for one in lists for part in [*([gene] for gene in one), one]]
    drop_SB = joint_drops(tracer, rows, plan.answer or "", sets).drop_SC
    drops = drop_SB.reshape(len(lists), len(genes) + 1, len(rows))
    found = {"genes": _joint(genes, drops[0, :-1], drops[0, -1], sampling, cfg.seed)}
    if len(lists) > 1:
        mean = drops[1:].mean(0)
        names = [f"like {gene}" for gene in genes]
        found["random genes"] = _joint(names, mean[:-1], mean[-1], sampling, cfg.seed)
    return found


def _takeover(
    tracer: Tracer, made: EditedModel, seen: EditedModel, nodes: np.ndarray, n_risen: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the features that rise carry more once `nodes` are off, in the measured cells [B]; and which."""
    risen = risen_features(tracer, made, nodes, n_risen)
    if not len(risen):
        return np.zeros(len(seen.cells)), risen
    before_B, without_B = seen.before.log_odds_B, _off(seen, nodes)
    both_B = _off(seen, np.concatenate([nodes, risen]))
    return (without_B - both_B) - (before_B - _off(seen, risen)), risen


def risen_features(tracer: Tracer, model: EditedModel, nodes: np.ndarray, n: int) -> np.ndarray:
    """The features above the lowest edited layer that rise most when `nodes` are off: mean activation after
    less before, times the length of the decoder row; at most n, none that does not rise, [n, 2]."""
    after = model.edited(Edit(nodes, "ablate", 1.0), activations=True).activation_BLF
    before = model.edited(None, activations=True).activation_BLF
    assert after is not None and before is not None
    length_LF = np.stack(
        [c.W_dec_Fd.norm(dim=1).double().cpu().numpy() for c in tracer.rep.transcoders.layers]
    )
    rise_LF = (after - before).mean(0) * length_LF
    rise_LF[: int(nodes[:, 0].min()) + 1] = 0.0
    rise_LF[nodes[:, 0], nodes[:, 1]] = 0.0
    order = np.argsort(-rise_LF.ravel(), kind="stable")[:n]
    order = order[rise_LF.ravel()[order] > 0]
    return np.stack(np.divmod(order, rise_LF.shape[1]), 1)


def _risen(
    tracer: Tracer, seen: EditedModel, nodes: np.ndarray, risen: np.ndarray, sampling: Sampling
) -> tuple[Risen, ...]:
    """The risen features in the measured cells, which did not choose them."""
    after = seen.edited(Edit(nodes, "ablate", 1.0), activations=True).activation_BLF
    before = seen.edited(None, activations=True).activation_BLF
    assert after is not None and before is not None
    found = []
    for layer, feature in risen.tolist():
        before_B = before[:, layer, feature]
        rise_B = after[:, layer, feature] - before_B
        means = (mean_interval(before_B, sampling), mean_interval(rise_B, sampling))
        found.append(
            Risen(layer, feature, name_in(tracer.names, layer, feature), *means, float((rise_B > 0).mean()))
        )
    return tuple(found)

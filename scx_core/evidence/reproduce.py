"""The seed paper's three experiments (arXiv 2509.14723), for any model, transcoders and cells.

 1. losses: CE of the model, with transcoders for every MLP, with no MLPs; KL (method §3), on test cells;
 2. features: of 20 random live features of the middle layer, how many can be read; the paper had people read
    them, here the atlas' protocol does, beside what it says of random directions and of shuffled cells;
 3. a circuit: where the paper's three genes of endothelial cells (VWF, PTPRB, SPARCL1) stand in the type's
    consensus, and what all three taken out at once do to the real model, beside genes of the same ranks.

The paper read C2S-Pythia-410m on Heart Cell Atlas v2; another model on other cells does the same experiments
and is no replication. A file without endothelial cells is asked for another type's known genes (`ANALOGUES`).
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from scx_core.atlas import Atlas, AtlasConfig, make_atlas
from scx_core.atlas.collect.directions import RANDOM
from scx_core.atlas.collect.token_slots import ACTIVATIONS, DATA, GENES
from scx_core.atlas.judge.protocol import CONTEXT, DEAD, FAMILY, GENE, SET, TYPE
from scx_core.atlas.rating.ratings import interpretable
from scx_core.cells import CellTable
from scx_core.circuits import ConsensusConfig, TraceConfig, Tracer
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.measured_effects import joint_drops
from scx_core.evidence.planted_truth import CountedShare
from scx_core.evidence.rankings.rankers import mean_places, rank_matched
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.statistics.resampling import mean_interval, one_group
from scx_core.validation import PAPER, validate, validation_rows

PAPER_GENES = ("VWF", "PTPRB", "SPARCL1")
PAPER_FEATURES = CountedShare(7, 20)
BIOLOGY = (CONTEXT, FAMILY, GENE, SET, TYPE)  # verdicts about genes and cells, not about text or position
NULLS = (DATA[ACTIVATIONS], DATA[GENES])
NEAREST = "endothelial"
# Where no type is endothelial: the first of these that is there, with three genes that are known for it.
ANALOGUES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("CD19+ B", ("CD79A", "CD79B", "MS4A1")),
    ("B cell", ("CD79A", "CD79B", "MS4A1")),
    ("B", ("CD79A", "CD79B", "MS4A1")),
)


@dataclass(frozen=True)
class ReproduceConfig:
    """How many cells each experiment reads."""

    test_cells: int = option(0, "Test cells of the losses; 0 takes all", minimum=0)
    baselines: bool = option(True, "Also measure stand-ins without features (linear maps …)")
    features: int = option(20, "Random live features of the middle layer", minimum=1)
    layer: int = option(-1, "Layer of the features; below 0: the middle one", minimum=-1)
    atlas_cells: int = option(240, "Cells that the features are read on; 0 takes all", minimum=0)
    draws: int = option(3, "Draws of random directions", minimum=0)
    neurons: bool = option(True, "Also read the raw neurons")
    context: int = option(12, "Cells whose genes are exchanged, see `scx atlas`", minimum=0)
    circuit_cells: int = option(40, "Cells of the consensus", minimum=2)
    knockout_cells: int = option(30, "Cells in which genes are taken out", minimum=2)
    random_sets: int = option(10, "Sets of random genes of the same ranks", minimum=1)
    nodes: int = option(400, "Features a cell of the circuit", minimum=1)
    seed: int = option(0, "Seed of everything drawn", minimum=0)


class Spent(NamedTuple):
    """What one step took: seconds of processor time, and the most memory the process had by its end (GiB)."""

    step: str
    cpu_seconds: float
    peak_gib: float


class Reproduction(NamedTuple):
    """The three experiments, each with what the paper had, and what each step took."""

    model: str
    data: str
    losses: dict[str, Any]
    features: dict[str, Any]
    circuit: dict[str, Any]
    spent: tuple[Spent, ...]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        return self._asdict() | {"spent": [one._asdict() for one in self.spent]}


T = TypeVar("T")


class Stopwatch:
    """Processor time and peak memory by step."""

    def __init__(self) -> None:
        self.spent: list[Spent] = []

    def take(self, step: str, work: Callable[[], T]) -> T:
        """Do the work and write down what it took."""
        start = time.process_time()
        found = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        gib = peak / (2**30 if sys.platform == "darwin" else 2**20)
        self.spent.append(Spent(step, time.process_time() - start, gib))
        return found


def reproduce(
    tracer: Tracer,
    label: str | None = None,
    genes: Sequence[str] | None = None,
    cfg: ReproduceConfig | None = None,
    *,
    atlas: Atlas | None = None,
    watch: Stopwatch | None = None,
    progress: Progress = silent,
) -> Reproduction:
    """The three experiments. `label`, `genes`: the type and its genes (default: the paper's, or those of an
    analogue). `atlas` of the same features is read where it is given, else one is made. Raises ScxError for
    an unknown type, and where there is neither an endothelial type nor an analogue.
    """
    cfg, watch = cfg or ReproduceConfig(), watch or Stopwatch()
    label, genes = type_and_genes(tracer.table, label, genes)
    losses = watch.take("losses", lambda: losses_of(tracer, cfg, progress))
    features = watch.take("features", lambda: features_of(tracer, cfg, atlas, progress))
    circuit = watch.take("circuit", lambda: circuit_of(tracer, label, genes, cfg, progress))
    about = tracer.about({"reproduce": to_dict(cfg)}, seed=cfg.seed)
    names = tracer.lm.name, tracer.table.name
    return Reproduction(*names, losses, features, circuit, tuple(watch.spent), about)


def type_and_genes(
    table: CellTable, label: str | None, genes: Sequence[str] | None
) -> tuple[str, tuple[str, ...]]:
    """The type to trace and its genes. Raises ScxError where neither is given nor known."""
    types = table.types
    if label is not None and label not in types:
        raise ScxError(f"{table.name} has no type {label[:60]!r}.", f"It has: {', '.join(types[:20])}.")
    blood = [name for name in types if NEAREST in name.lower() and "lymph" not in name.lower()]
    known: dict[str, tuple[str, ...]] = {
        name: PAPER_GENES for name in (*types, label or "") if NEAREST in name.lower()
    }
    known |= {name: found for name, found in ANALOGUES if name in types}
    label = label or next(iter([*blood, *(name for name, _ in ANALOGUES if name in types)]), None)
    if label is None or not (genes or known.get(label)):
        raise ScxError(
            f"{table.name} has no endothelial cells, and no genes are known here for "
            f"{'another of its types' if label is None else repr(label)}.",
            "Give the type (--type) and its genes (--genes A,B,C).",
        )
    return label, tuple(genes or known[label])


def losses_of(tracer: Tracer, cfg: ReproduceConfig, progress: Progress = silent) -> dict[str, Any]:
    """Experiment 1: figure → here, its interval, and the paper's."""
    lm, coders = tracer.lm, tracer.transcoders
    rows = validation_rows(lm, coders, tracer.table, cfg.test_cells, cfg.seed)
    found = validate(
        lm,
        coders,
        tracer.table,
        rows.test,
        train_rows=rows.train if cfg.baselines else None,
        split=rows.words,
        per_layer=False,
        progress=progress,
    ).to_json()
    named = ("ce_orig", "ce_transcoder", "ce_zero", "ce_recovered", "kl")
    return {
        "figures": {
            name: {"here": found[name], "interval": found["intervals"].get(name), "paper": PAPER[name]}
            for name in named
        },
        "baselines": {row["key"]: row["ce_recovered"] for row in found["baselines"]},
        "accuracy": [found["label_accuracy_orig"], found["label_accuracy_transcoder"]],
        "n_cells": found["n_cells"],
        "n_tokens": found["n_tokens"],
        "split": rows.words,
    }


def features_of(
    tracer: Tracer, cfg: ReproduceConfig, atlas: Atlas | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Experiment 2: of some random live features of the middle layer, how many have a reading, and how many
    one about genes or cells; beside all live ones of the layer, random directions, neurons and nulls."""
    wanted = AtlasConfig(
        cells=cfg.atlas_cells,
        random=cfg.draws,
        baseline=cfg.neurons,
        context=cfg.context,
        seed=cfg.seed,
    )
    made = atlas or make_atlas(tracer.lm, tracer.transcoders, tracer.table, cfg=wanted, progress=progress)
    layer = cfg.layer if cfg.layer >= 0 else tracer.lm.facts.n_layers // 2
    own = made.features
    live = own[(own["layer"] == layer) & (own["verdict"] != DEAD)]
    if live.empty:
        raise ScxError(
            f"Layer {layer} has no live feature.", "Choose another layer (--layer), or more cells."
        )
    drawn = live.sample(min(cfg.features, len(live)), random_state=cfg.seed)
    return {
        "layer": layer,
        "drawn": _read(drawn["verdict"]),
        "paper": PAPER_FEATURES.to_json(),
        "all live": _read(live["verdict"]),
        "rivals": _rivals(made, layer),
        "features": [
            {"feature": int(row["feature"]), "verdict": str(row["verdict"]), "genes": str(row["genes"])}
            for _, row in drawn.sort_values("feature").iterrows()
        ],
        "n_cells": int(made.meta.get("cells", cfg.atlas_cells) or tracer.table.n_cells),
    }


def _read(verdicts: pd.Series) -> dict[str, Any]:
    """How many have a reading, and how many one about genes or cells."""
    n = len(verdicts)
    return {
        "any": CountedShare(int(verdicts.map(interpretable).sum()), n).to_json(),
        "biology": CountedShare(int(verdicts.isin(BIOLOGY).sum()), n).to_json(),
    }


def _rivals(atlas: Atlas, layer: int) -> dict[str, dict[str, Any]]:
    """The same of all live random directions and neurons of the layer, and of the features where the cells'
    activations or genes are shuffled."""
    found: dict[str, dict[str, Any]] = {}
    table = atlas.table("baselines", layer)
    if "verdict" in table.columns:
        table = table[table["source"].str.startswith(RANDOM) & (table["verdict"] != DEAD)]
        found["random directions"] = _read(table["verdict"])
    for name, other in atlas.beside.items():
        own = other.features
        found[name] = _read(own[(own["layer"] == layer) & (own["verdict"] != DEAD)]["verdict"])
    shares = atlas.shares
    for data in sorted(set(shares["data"]) & set(NULLS)):
        part = shares[(shares["data"] == data) & (shares["layer"] == layer) & (shares["verdict"] != DEAD)]
        n = int(part["features"].iloc[0]) if len(part) else 0
        by = dict(zip(part["verdict"], (part["share"] * n).round().astype(int), strict=True))
        read = pd.Series([verdict for verdict, number in by.items() for _ in range(number)], dtype=object)
        found[data] = _read(read)
    return found


def circuit_of(
    tracer: Tracer, label: str, genes: Sequence[str], cfg: ReproduceConfig, progress: Progress = silent
) -> dict[str, Any]:
    """Experiment 3: the genes in the consensus of the type, and their joint knock-out in the real model."""
    circuit = tracer.consensus(
        label,
        trace=TraceConfig(nodes=cfg.nodes),
        cfg=ConsensusConfig(cells=cfg.circuit_cells, seed=cfg.seed),
        progress=progress,
    )
    order = sorted(circuit.genes, key=lambda one: (-one.effect, one.gene))
    place = {one.gene: (k + 1, one) for k, one in enumerate(order)}
    rows = []
    for gene in genes:
        at, one = place.get(gene, (None, None))
        rows.append(
            {
                "gene": gene,
                "place": at,
                "effect": None if one is None else one.effect,
                "interval": None if one is None or one.low is None else [one.low, one.high],
                "share_of_cells": 0.0 if one is None else one.share,
                "in_file": gene in set(map(str, tracer.table.symbols)),
            }
        )
    return {
        "type": label,
        "n_cells": circuit.n_cells,
        "of": len(order),
        "target": circuit.target.label,
        "genes": rows,
        "strongest": [[one.gene, one.effect] for one in order[:12]],
        "features": len({(node.layer, node.feature) for node in circuit.nodes if node.feature is not None}),
        "replacement_score": circuit.scores.get("replacement"),
        "knockout": _knocked_out(tracer, label, genes, cfg),
        "paper": list(PAPER_GENES),
    }


def _knocked_out(
    tracer: Tracer, label: str, genes: Sequence[str], cfg: ReproduceConfig
) -> dict[str, Any] | None:
    """What the label's log-odds lose without the genes, beside random genes of the same mean ranks, in cells
    of the type that hold one of them; None where no cell does."""
    every = np.flatnonzero(tracer.table.labels == label)
    every = np.random.default_rng(cfg.seed).permutation(every)[: 4 * cfg.knockout_cells]
    cells = tracer.encode(every)
    holds = [bool(set(genes) & set(cell.genes)) for cell in cells]
    rows = every[np.array(holds, dtype=bool)][: cfg.knockout_cells]
    if len(rows) < 2:
        return None
    places = mean_places([cell.genes for cell in cells], tracer.lm.sentence_config.n_genes)
    rng = np.random.default_rng(cfg.seed)
    others = [rank_matched(places, genes, rng) for _ in range(cfg.random_sets)]
    drops = joint_drops(tracer, rows, tracer.answer_for(label), [list(genes), *others])
    random_C = drops.drop_SC[1:].mean(0)
    group = one_group(len(rows), cfg.seed, tracer.donors(rows))
    found: Mapping[str, np.ndarray] = {
        "drop": drops.drop_SC[0],
        "random": random_C,
        "ahead": drops.drop_SC[0] - random_C,
    }
    return {
        **{name: mean_interval(value_C, group)._asdict() for name, value_C in found.items()},
        "held": float(drops.held_SC[:, 0].mean()),
        "n_cells": len(rows),
        "holding": CountedShare(sum(holds), len(holds)).to_json(),
        "random_sets": len(others),
    }


def reproduction_text(result: Mapping[str, Any]) -> str:
    """The three experiments in plain text, the paper's figures beside; and what each step took."""
    losses, features, circuit = result["losses"], result["features"], result["circuit"]
    lines = [
        f"{result['model']} on {result['data']}; the paper: C2S-Pythia-410m on Heart Cell Atlas v2.",
        "",
        f"1. Losses ({losses['n_cells']} test cells, {losses['n_tokens']} tokens)",
    ]
    for name, one in losses["figures"].items():
        lines.append(f"   {name:14} {one['here']:.3f}{_span(one['interval'], 3)}   paper {one['paper']}")
    if losses["baselines"]:
        best = max(losses["baselines"], key=lambda key: losses["baselines"][key])
        lines.append(f"   without features, {best}: CE recovered {losses['baselines'][best]:.3f}")
    lines += ["", f"2. Features of layer {features['layer']}: with a reading / one about genes or cells"]
    own, every = features["drawn"], features["all live"]
    n = own["any"]["n"]
    lines.append(f"   {n} drawn: {_counted(own)}   paper {_share(features['paper'])}")
    lines.append(f"   all live: {_counted(every)}")
    lines += [f"   {name}: {_counted(one)}" for name, one in features["rivals"].items()]
    lines += ["", f"3. {circuit['type']}: {circuit['n_cells']} cells, {circuit['target']}"]
    for row in circuit["genes"]:
        if row["place"] is None:
            said = "in no sentence" if row["in_file"] else "not in the file"
        else:
            said = (
                f"place {row['place']} of {circuit['of']}, {row['effect']:+.3f}{_span(row['interval'], 3)}, "
                f"in {row['share_of_cells']:.0%} of the cells"
            )
        lines.append(f"   {row['gene']:8} {said}")
    lines.append("   strongest: " + ", ".join(f"{gene} {value:.2f}" for gene, value in circuit["strongest"]))
    knockout = circuit["knockout"]
    if knockout is None:
        lines.append("   Too few cells hold these genes for a knock-out.")
    else:
        parts = {name: knockout[name] for name in ("drop", "random", "ahead")}
        words = {
            name: f"{one['mean']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" for name, one in parts.items()
        }
        lines.append(
            f"   taken out together ({knockout['held']:.1f} held, {knockout['n_cells']} cells) the label "
            f"loses {words['drop']} nats; rank-matched random genes {words['random']}; ahead {words['ahead']}"
        )
    lines += ["", "Processor time and peak memory:"]
    lines += [
        f"   {s['step']:22} {s['cpu_seconds']:8.1f} s {s['peak_gib']:6.2f} GiB" for s in result["spent"]
    ]
    return "\n".join(lines)


def _counted(found: Mapping[str, Any]) -> str:
    return f"{_share(found['any'])} / {_share(found['biology'])}"


def _share(one: Mapping[str, Any]) -> str:
    if not one["n"]:
        return "none"
    return f"{one['k']} of {one['n']} ({one['share']:.2f} [{one['low']:.2f}, {one['high']:.2f}])"


def _span(interval: Any, digits: int) -> str:
    if interval is None:
        return ""
    low, high = interval.values() if isinstance(interval, Mapping) else interval
    return f" [{low:.{digits}f}, {high:.{digits}f}]"

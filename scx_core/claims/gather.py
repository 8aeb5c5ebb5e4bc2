"""All claims on a model, its transcoders, cells and atlas: each part measures what its sentences need.

A part that fails says so and does not lose the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from scx_core.atlas import Atlas
from scx_core.circuits import Circuit, ConsensusConfig, Tracer
from scx_core.circuits.difference import compare_types
from scx_core.circuits.stability import tie_stability
from scx_core.claims.claim import Claim
from scx_core.claims.of_circuits import consensus_claims, difference_claims, tie_claims
from scx_core.claims.of_effects import effect_claims, ranking_claims, smallest_claims
from scx_core.claims.of_features import atlas_claims, name_claims
from scx_core.claims.of_model import answer_claims, validation_claims
from scx_core.errors import ScxError
from scx_core.evidence.rankings.rankings import RankingConfig, rank_genes_of
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig, smallest
from scx_core.runs.options import option, to_dict
from scx_core.runs.progress import Progress, silent
from scx_core.sentences import ties_of
from scx_core.validation import validate, validation_rows

SUMS = 1e-4  # how far the edges into a node may miss it, relative to what goes in


@dataclass(frozen=True)
class ClaimsConfig:
    """On how many cells claims are measured."""

    cells: int = option(20, "Cells a type of consensus circuits, differences, ties and knock-outs", minimum=4)
    test_cells: int = option(0, "Test cells of the validation; 0: all", minimum=0)
    answer_cells: int = option(1000, "Cells a type of which the model's answer is asked", minimum=1)
    ranked: int = option(20, "Cells a type that rankings look at, and in which they are measured", minimum=2)
    least: int = option(20, "Leave out types with fewer cells", minimum=4)
    types: int = option(0, "Most types, the largest first; 0: all", minimum=0)
    pairs: int = option(3, "Differences between neighbours in the list of types", minimum=1)
    seed: int = option(0, "Seed that draws the cells", minimum=0)


CLAIMS = ClaimsConfig()


def quick(cfg: ClaimsConfig = CLAIMS) -> ClaimsConfig:
    """The same with few cells: minutes become seconds, and intervals wide."""
    return replace(cfg, cells=6, test_cells=20, answer_cells=12, ranked=6, types=2, pairs=1)


class ClaimsPart(NamedTuple):
    """The claims of one part, or why there are none."""

    name: str
    words: str
    claims: tuple[Claim, ...]
    failed: str = ""


class AllClaims(NamedTuple):
    """Every part, and what they were made from."""

    parts: tuple[ClaimsPart, ...]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain types for `json.dump`."""
        parts = [one._asdict() | {"claims": [claim.to_json() for claim in one.claims]} for one in self.parts]
        return {"parts": parts, "provenance": self.provenance}


class ClaimContext(NamedTuple):
    """What a part may ask: the tracer, its atlas if there is one, the settings, and the types in question."""

    tracer: Tracer
    atlas: Atlas | None
    cfg: ClaimsConfig
    types: tuple[str, ...]
    circuits: dict[str, Circuit]
    progress: Progress

    @property
    def opened_atlas(self) -> Atlas:
        """The atlas. Raises ScxError without one."""
        if self.atlas is None:
            raise ScxError("There is no atlas of these features.", "Make one: scx atlas.")
        return self.atlas

    def consensus(self, label: str) -> Circuit:
        """The consensus of a type, made once."""
        if label not in self.circuits:
            cfg = ConsensusConfig(cells=self.cfg.cells, seed=self.cfg.seed)
            self.circuits[label] = self.tracer.consensus(label, cfg=cfg, progress=self.progress)
        return self.circuits[label]


def all_claims(
    tracer: Tracer,
    atlas: Atlas | None = None,
    only: Sequence[str] = (),
    cfg: ClaimsConfig = CLAIMS,
    progress: Progress = silent,
) -> AllClaims:
    """All parts, or those of `only`. Raises ScxError for a part that does not exist."""
    unknown = [name for name in only if name not in PARTS]
    if unknown:
        raise ScxError(f"There is no part {unknown[0]!r} of the claims.", f"The parts: {', '.join(PARTS)}.")
    asked = ClaimContext(tracer, atlas, cfg, _types(tracer, cfg), {}, progress)
    found = []
    for name in only or PARTS:
        words, ask = PARTS[name]
        try:
            found.append(ClaimsPart(name, words, tuple(dict.fromkeys(ask(asked)))))
        except Exception as error:  # noqa: BLE001 (the table says it)
            found.append(ClaimsPart(name, words, (), f"{type(error).__name__}: {error}"))
    about = tracer.about({"claims": to_dict(cfg)}, seed=cfg.seed)
    return AllClaims(tuple(found), about)


def _types(tracer: Tracer, cfg: ClaimsConfig) -> tuple[str, ...]:
    """Types with enough cells that the model has an answer for, the largest first."""
    counts = tracer.table.cells_per_type()
    known = [str(name) for name, n in counts.items() if n >= cfg.least and str(name) in tracer.labels]
    return tuple(known[: cfg.types or None])


def _set(asked: ClaimContext) -> list[Claim]:
    tracer, cfg = asked.tracer, asked.cfg
    rows = validation_rows(tracer.lm, tracer.transcoders, tracer.table, cfg.test_cells, cfg.seed)
    found = validate(
        tracer.lm,
        tracer.transcoders,
        tracer.table,
        rows.test,
        train_rows=rows.train,
        split=rows.words,
        per_layer=False,
        progress=asked.progress,
    )
    return validation_claims(found)


def _answers(asked: ClaimContext) -> list[Claim]:
    return answer_claims(asked.tracer, asked.cfg.answer_cells, asked.cfg.seed)


def _effects(asked: ClaimContext) -> list[Claim]:
    return effect_claims(asked.tracer, asked.types, asked.cfg.cells, asked.cfg.seed, asked.progress)


def _circuits(asked: ClaimContext) -> list[Claim]:
    found = []
    for label in asked.types:
        circuit = asked.consensus(label)
        miss = float(circuit.accounting["max_relative_error"])
        found += consensus_claims(circuit)
        found.append(
            Claim(
                f"The edges into each node of the circuit of {label} add up to the node (largest miss).",
                miss,
                SUMS,
                "largest miss that passes",
                None,
                circuit.n_cells,
                miss <= SUMS,
            )
        )
    return found


def _names(asked: ClaimContext) -> list[Claim]:
    return name_claims([asked.consensus(label) for label in asked.types[:6]], asked.opened_atlas)


def _rankings(asked: ClaimContext) -> list[Claim]:
    cfg = RankingConfig(
        cells=asked.cfg.ranked, measured=asked.cfg.ranked, least=asked.cfg.least, seed=asked.cfg.seed
    )
    return ranking_claims(rank_genes_of(asked.tracer, asked.types, cfg, asked.progress))


def _smallest(asked: ClaimContext) -> list[Claim]:
    cells = asked.cfg.cells
    cfg = SmallestConfig(
        search_cells=cells,
        gradient_cells=min(10, cells),
        unseen_cells=cells,
        compare=False,
        seed=asked.cfg.seed,
    )
    return [
        claim
        for label in asked.types
        for claim in smallest_claims(smallest(asked.tracer, label, cfg=cfg, progress=asked.progress))
    ]


def _differences(asked: ClaimContext) -> list[Claim]:
    cfg, found = ConsensusConfig(cells=asked.cfg.cells, seed=asked.cfg.seed), list[Claim]()
    for first, second in list(zip(asked.types, asked.types[1:], strict=False))[: asked.cfg.pairs]:
        between = compare_types(asked.tracer, first, second, cfg=cfg, progress=asked.progress)
        found += difference_claims(between)
    return found


def _ties(asked: ClaimContext) -> list[Claim]:
    tracer, found = asked.tracer, list[Claim]()
    for label in asked.types:
        rows = tracer.draw(label, ConsensusConfig(cells=asked.cfg.cells, seed=asked.cfg.seed))
        ties = ties_of(tracer.table, rows, tracer.lm.sentence_config.n_genes)
        stable = tie_stability(tracer, label, rows, progress=asked.progress)
        found += [claim._replace(sentence=f"{label}: {claim.sentence}") for claim in tie_claims(ties, stable)]
    return found


PARTS: Mapping[str, tuple[str, Callable[[ClaimContext], list[Claim]]]] = {
    "set": ("Model and transcoders, on test cells (Validate)", _set),
    "answers": ("Whose answer, against whom (Circuits)", _answers),
    "circuits": ("What a circuit says of its genes (Circuits, figures)", _circuits),
    "effects": ("What an effect is (Circuits, knock-outs)", _effects),
    "names": ("What features are called (Circuits, figures)", _names),
    "rankings": ("The circuit's genes beside other rankings (README, rankings)", _rankings),
    "smallest": ("Smallest circuits (Circuits, smallest)", _smallest),
    "differences": ("What differs between two types (Circuits, difference)", _differences),
    "ties": ("What the order of ties decides (Data, Circuits)", _ties),
    "atlas": ("What features respond to (Features)", lambda asked: atlas_claims(asked.opened_atlas)),
}

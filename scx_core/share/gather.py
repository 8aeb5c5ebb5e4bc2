"""What is shared: everything that is known of one model and one transcoder set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scx_core.atlas import Atlas
from scx_core.atlas.feature_naming import atlases_stamp, fitting_atlas, name_book
from scx_core.atlas.tables.atlas import FILE as ATLAS_FILE
from scx_core.cells.choices import as_names
from scx_core.circuits import Circuit, ConsensusConfig, Tracer
from scx_core.circuits.circuit import SCHEMA_VERSION
from scx_core.circuits.feature_names import with_names
from scx_core.errors import ScxError
from scx_core.evidence.by_type.further import QUESTIONS, kept_answers
from scx_core.evidence.by_type.measure import FOLDER as EVIDENCE
from scx_core.evidence.by_type.measure import with_further
from scx_core.evidence.by_type.record import TypeEvidence, as_one_family
from scx_core.runs import Progress, option, read_json, runs_root, silent
from scx_core.runs.cached_results import FOLDER as RESULTS
from scx_core.runs.files import check_inside, is_folder, to_json_text
from scx_core.runs.options import check
from scx_core.runs.progress import nested
from scx_core.validation import Validation, validation_beside
from scx_core.validation.result import from_json
from scx_core.validation.standing import FOLDER as VALIDATIONS
from scx_core.validation.standing import kept_validation

PARTS = ("model", "transcoders")  # what all that is shared must be of
LARGEST_FILE = 200_000_000  # bytes of a JSON that is looked into


@dataclass(frozen=True)
class ShareConfig:
    """How much is shared."""

    cells: int = option(
        30, "Cells of a type whose circuit is traced; 0: only circuits that are there", minimum=0
    )
    features: int = option(20_000, "Features of the atlas, those of the largest total activation", minimum=1)
    seed: int = option(0, "Seed that draws the cells", minimum=0)

    def __post_init__(self) -> None:
        check(self)


SHARE = ShareConfig()


class Shared(NamedTuple):
    """All of one model and set. `circuits` by the name they are listed under; `about`: a provenance."""

    name: str
    atlas: Atlas | None
    circuits: dict[str, Circuit]
    evidence: tuple[TypeEvidence, ...]
    validation: Validation | None
    about: Mapping[str, Any]


def gather(
    tracer: Tracer,
    types: Sequence[str] | None = None,
    cfg: ShareConfig = SHARE,
    *,
    root: Path | None = None,
    atlas: Atlas | None = None,
    progress: Progress = silent,
) -> Shared:
    """What the runs folder knows of an open model, and the circuits of its types (default: all that it has an
    answer for), traced where no evidence holds one.

    `atlas`: in place of the fittest one that is kept or ships. Raises ScxError for an unknown type.
    """
    about = tracer.about({}, seed=cfg.seed)
    made_from = {"data": tracer.table, "model": tracer.lm, "transcoders": tracer.transcoders}
    records = _records(tracer, root or runs_root())
    evidence = as_one_family(records)
    circuits = {}
    wanted = as_names(types) if types is not None else _answered(tracer)
    held = {one.label: one.drawn for one in evidence}
    for k, label in enumerate(wanted):
        if label in held:
            circuits[label] = held[label]
        elif cfg.cells:
            drawn = ConsensusConfig(cells=cfg.cells, seed=cfg.seed)
            tell = nested(progress, k, len(wanted), label)
            circuits[label] = tracer.consensus(label, cfg=drawn, progress=tell)
    marks = {part: getattr(thing, "fingerprint", "") for part, thing in made_from.items()}
    validation = validation_beside(tracer.transcoders.folder, marks) or kept_validation(about, root)
    found = atlas or fitting_atlas(made_from, root)
    return Shared(tracer.lm.name, found, _named(circuits, about, root), tuple(evidence), validation, about)


def stamp_of(root: Path | None = None) -> str:
    """Changes when anything does in the runs folder that `gather` takes from it: atlases and their labels,
    evidence, what else was asked of a circuit, validations."""
    root = root or runs_root()
    places = (EVIDENCE, VALIDATIONS, *(f"{RESULTS}/{question}" for question in QUESTIONS))
    files = [path for place in places for path in (root / place).glob("*.json")]
    held = [[str(path.relative_to(root)), path.stat().st_mtime_ns] for path in sorted(files)]
    text = to_json_text({"files": held, "atlases": atlases_stamp(root)})
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _answered(tracer: Tracer) -> list[str]:
    """The types that the model has an answer for, the most frequent first."""
    found = []
    for label in map(str, tracer.table.cells_per_type().index):
        with suppress(ScxError):
            tracer.answer_for(label)
            found.append(label)
    return found


def _named(circuits: dict[str, Circuit], about: Mapping[str, Any], root: Path | None) -> dict[str, Circuit]:
    """The circuits with the names that the atlas of their features gives now."""
    book = name_book(about, root)
    return {label: with_names(circuit, book) for label, circuit in circuits.items()}


def _records(tracer: Tracer, root: Path) -> list[TypeEvidence]:
    """The evidence that is kept of this model, set and cells: of each type the record of the most cells."""
    wanted = {"model": tracer.lm, "transcoders": tracer.transcoders, "data": tracer.table}
    marks = {part: getattr(thing, "fingerprint", "") for part, thing in wanted.items()}
    found: dict[str, TypeEvidence] = {}
    for path in sorted((root / EVIDENCE).glob("*.json")):
        with suppress(ScxError):
            one = TypeEvidence.from_json(read_json(path), path.name)
            if {part: _mark(one.provenance, part) for part in marks} != marks:
                continue
            if one.label not in found or _size(one) > _size(found[one.label]):
                found[one.label] = one
    return [with_further(one, kept_answers(tracer, label, root)) for label, one in sorted(found.items())]


def _size(found: TypeEvidence) -> int:
    return found.circuit.n_cells + int(found.rankings["n"])


def gather_folder(folder: Path | str) -> Shared:
    """All results in a folder and the folders below it: an atlas, circuits, evidence and validations as JSON.

    Raises ScxError where there is none, or where they are of several models or transcoder sets.
    """
    folder = Path(folder)
    if not is_folder(folder):
        raise ScxError(f"{str(folder)[:200]} is no folder.", "Give a folder of results, or a model.")
    atlas: Atlas | None = None
    validation: Validation | None = None
    circuits: dict[str, Circuit] = {}
    evidence: list[TypeEvidence] = []
    seen: dict[str, tuple[str, str]] = {}
    for path in sorted(folder.rglob(f"*{ATLAS_FILE}")):
        if path.name == ATLAS_FILE and atlas is None:
            atlas = Atlas.open(path.parent)
            seen[str(path.relative_to(folder))] = _of(atlas.meta.get("provenance", {}))
    for path, record in _json_files(folder):
        kind = _kind(record)
        name = str(path.relative_to(folder))
        if kind == "evidence":
            evidence.append(TypeEvidence.from_json(record, name))
            seen[name] = _of(evidence[-1].provenance)
        elif kind == "circuit":
            one = Circuit.from_json(record.get("circuit", record), name)
            circuits[_listed_as(one, path.stem, circuits)] = one
            seen[name] = _of(one.provenance)
        elif kind == "validation" and validation is None:
            validation = from_json(record, name)
            seen[name] = _of(validation.provenance)
    if not seen:
        raise ScxError(
            f"{folder} holds no atlas, circuit, evidence or validation.", "Give a folder that does."
        )
    _check_one(seen)
    about = _about(atlas, circuits, evidence, validation)
    circuits = {one.label: one.drawn for one in evidence} | circuits
    model = about.get("model")
    name = (model.get("name") if isinstance(model, Mapping) else model) or folder.name
    return Shared(str(name), atlas, circuits, tuple(as_one_family(evidence)), validation, about)


def _json_files(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The JSON objects in a folder, in the order of their names; what cannot be read is passed over."""
    for path in sorted(folder.rglob("*.json")):
        with suppress(ScxError):
            check_inside(path, folder)
            if path.name == ATLAS_FILE or not path.is_file() or path.stat().st_size > LARGEST_FILE:
                continue
            record = read_json(path)
            if isinstance(record, dict):
                yield path, record


def _kind(record: Mapping[str, Any]) -> str:
    if {"rankings", "prediction", "doses", "circuit"} <= record.keys():
        return "evidence"
    held = record.get("circuit", record)  # a saved view holds its circuit
    if isinstance(held, Mapping) and {"scope", "nodes", "edges", "schema_version"} <= held.keys():
        return "circuit" if held["schema_version"] in range(1, SCHEMA_VERSION + 1) else ""
    return "validation" if {"ce_recovered", "confusion", "per_layer"} <= record.keys() else ""


def _listed_as(circuit: Circuit, stem: str, there: Mapping[str, Circuit]) -> str:
    """The type of a consensus, else the name of its file; a second one has the file's name behind it."""
    label = circuit.provenance.get("cell_type")
    name = label if circuit.scope == "consensus" and isinstance(label, str) and label else stem
    return f"{name} ({stem})" if name in there else name


def _of(provenance: Mapping[str, Any]) -> tuple[str, str]:
    return _mark(provenance, PARTS[0]), _mark(provenance, PARTS[1])


def _mark(provenance: Mapping[str, Any], part: str) -> str:
    stated = provenance.get(part)
    return str(stated.get("fingerprint") or "") if isinstance(stated, Mapping) else ""


def _check_one(seen: Mapping[str, tuple[str, str]]) -> None:
    first = next(iter(seen))
    for name, marks in seen.items():
        if marks != seen[first]:
            raise ScxError(
                f"{name[:80]} and {first[:80]} are not of one model and one set of transcoders.",
                "Share the results of one model at a time.",
            )


def _about(
    atlas: Atlas | None,
    circuits: Mapping[str, Circuit],
    evidence: Sequence[TypeEvidence],
    validation: Validation | None,
) -> Mapping[str, Any]:
    """The provenance of the first part that has one."""
    stated = [one.provenance for one in evidence] + [one.provenance for one in circuits.values()]
    stated += [validation.provenance] if validation is not None else []
    stated += [atlas.meta.get("provenance", {})] if atlas is not None else []
    return next((one for one in stated if one), {})

"""A record of evidence, measured on a tiny random model once for all tests that read one."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from scx_core.circuits import Tracer, make_tracer
from scx_core.evidence.by_type.measure import EvidenceOfTypes, TypesConfig, evidence_of_types
from scx_core.evidence.feature_edits import EditConfig, edit_features
from scx_core.evidence.redundancy import RedundancyConfig, redundancy_of
from scx_core.transcoders import TranscoderSet
from tests.tiny import random_set, tiny_language, tiny_table

LABEL, OTHER = "CD19+ B", "Dendritic"
CFG = TypesConfig(cells=4, measured=4, knocked=2, varied=2, least=6, genes=3, draws=2)


@cache
def tiny_tracer() -> Tracer:
    """Sixty random cells in five types, a random model and a random set."""
    lm = tiny_language(Path(tempfile.mkdtemp()) / "model")
    table = tiny_table(60)
    names = ("name", "organism", "fingerprint", "n_cells", "n_genes", "symbols", "labels", "types", "rows")
    cells = SimpleNamespace(
        **{name: getattr(table, name) for name in names},
        cell_ids=table.cell_ids,
        values_kind="counts",
        donors=np.array([f"donor{row % 4}" for row in range(60)], dtype=object),
        answer_of={label: label for label in table.types},
        answers=table.labels,
    )
    return make_tracer(lm, random_set(lm, "jumprelu", skip=True), cells)


@cache
def tiny_others() -> list[TranscoderSet]:
    """Another set of the same model."""
    return [random_set(tiny_tracer().lm, "jumprelu", True, seed=2)]


@cache
def feature_answers() -> tuple[dict, dict]:
    """The JSON of an edit over doses and of redundancy, of the tiny tracer's first type."""
    tracer, few = tiny_tracer(), {"circuit_cells": 3, "measured": 3, "reference_cells": 3, "draws": 2}
    edits = edit_features(tracer, LABEL, doses=[0.5, 1.0, 2.0], cfg=EditConfig(top=2, **few))
    held = redundancy_of(tracer, LABEL, cfg=RedundancyConfig(top=2, genes=2, risen=2, **few))
    return edits.to_json(), held.to_json()


@cache
def tiny_evidence() -> EvidenceOfTypes:
    """Two types, measured without being saved (a random set has no fingerprint)."""
    return evidence_of_types(tiny_tracer(), [LABEL, OTHER], CFG, others=tiny_others())

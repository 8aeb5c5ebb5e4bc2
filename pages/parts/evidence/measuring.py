"""Which type is asked about, what is known of it, and the job that measures it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts.common.jobs import job_box
from pages.parts.common.results import Memory
from pages.parts.common.session import Context, kept
from pages.parts.common.words import safe
from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.evidence.by_type.job import EvidenceJob, job_of, launch_evidence, settings_of_last
from scx_core.evidence.by_type.measure import (
    TypesConfig,
    evidence_file,
    largest,
    siblings,
)
from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.runs import options_of, read_json
from scx_core.transcoders.sources import absolute

_RECORDS: Memory[TypeEvidence] = Memory(24)
_ASKED = {
    "cells": "Cells that make the circuit",
    "measured": "Cells that judge it",
    "knocked": "… of them with every gene out alone",
    "varied": "Cells that are traced again",
    "seed": "Seed",
}


def types_to_choose(tracer: Tracer) -> list[str]:
    """Types with enough cells for two halves, the largest first. Raises ScxError where there is none."""
    found = largest(tracer, TypesConfig(types=1000))
    if not found:
        raise ScxError(
            f"{tracer.table.name} has no type with enough cells for two halves.",
            f"A type needs {TypesConfig().least} labelled cells that the model has an answer for: map the "
            "types to its answers (page Data), or train a model on these cells (page Train).",
        )
    return found


def chosen_settings(ctx: Context) -> TypesConfig:
    """The numbers of cells, as a person sets them; at first those of the last measurement of these cells."""
    base = settings_of_last(_job(ctx, "", TypesConfig())) or TypesConfig()
    values = {}
    for name, title in _ASKED.items():
        opt = next(one for one in options_of(TypesConfig) if one.name == name)
        values[name] = kept(
            st.number_input, title, f"evidence {name}", getattr(base, name),
            min_value=int(opt.minimum or 0), max_value=10_000, step=1, help=opt.help,
        )  # fmt: skip
    return replace(base, **values)


def known(tracer: Tracer, label: str, cfg: TypesConfig) -> TypeEvidence | None:
    """The saved record; read once as long as its file stays the same. Raises ScxError when it is damaged."""
    path = evidence_file(tracer, label, cfg, siblings(tracer))
    if not path.exists():
        return None
    state = path.stat()
    key = (str(path), state.st_mtime_ns, state.st_size)
    return _RECORDS.get(key, lambda: TypeEvidence.from_json(read_json(path), Path(path).name))


def measure_button(
    ctx: Context, tracer: Tracer, label: str, cfg: TypesConfig, where: DeltaGenerator, done: bool
) -> None:
    """Start the job when a person asks. Raises ScxError."""
    run = job_of(tracer, label, cfg)
    busy = run is not None and run.status().state == "running"
    if done:
        words = "It is measured already; other numbers of cells are another measurement."
        where.button("Measured", width="stretch", disabled=True, help=words)
    elif where.button("Measure", type="primary", width="stretch", disabled=busy):
        _launch(ctx, tracer, label, cfg)


def all_button(
    ctx: Context, tracer: Tracer, cfg: TypesConfig, n: int, open_types: int, where: DeltaGenerator
) -> None:
    """One job for those of the `n` largest types that are not measured yet. Raises ScxError."""
    if n < 2:
        return
    words = f"Measure the {n} largest"
    run = job_of(tracer, "", cfg)
    busy = run is not None and run.status().state == "running"
    told = f"{open_types} of them are not measured. In the background, one after another; each is kept."
    if open_types and where.button(words, width="stretch", disabled=busy, help=told):
        _launch(ctx, tracer, "", cfg)


def _launch(ctx: Context, tracer: Tracer, label: str, cfg: TypesConfig) -> None:
    launch_evidence(_job(ctx, label, cfg), tracer)
    st.toast(f"{safe(label) or 'The largest types'}: measuring in the background. You may leave this page.")
    st.rerun()


def _job(ctx: Context, label: str, cfg: TypesConfig) -> EvidenceJob:
    sources = (absolute(source) for source in (ctx.data, ctx.model, ctx.transcoders))
    return EvidenceJob(*sources, ctx.device, ctx.as_is, ctx.cells, label, cfg)


def jobs_under_way(tracer: Tracer, label: str, cfg: TypesConfig, done: bool) -> bool:
    """The job of this type and that of the largest, as far as they are; whether one measures this type or was
    interrupted while it did."""
    shown = False
    for whose in (label, ""):
        run = job_of(tracer, whose, cfg)
        if run is not None and done and whose and run.status().state != "running":
            continue
        shown |= job_box(run, whose or "The largest types")
    return shown

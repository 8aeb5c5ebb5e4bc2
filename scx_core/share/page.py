"""The page: what is searched lies in it as packed data, what reads it as scripts that its policy names."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from scx_core.evidence.by_type.record import TypeEvidence
from scx_core.figures.captions import provenance_line
from scx_core.figures.drawing.text import plain
from scx_core.figures.formats.html import asset, packed_text, script_json, vis_network
from scx_core.figures.report import document_of
from scx_core.figures.report.page import part_html, section_html
from scx_core.figures.report.validation import (
    baselines_table,
    classes_table,
    figures_table,
    labels_table,
    layers_table,
)
from scx_core.runs.files import write_atomic
from scx_core.share.atlas_data import atlas_data
from scx_core.share.circuit_data import circuit_data
from scx_core.share.gather import SHARE, ShareConfig, Shared
from scx_core.validation import Validation
from scx_core.validation.warnings import judged

SCRIPTS = ("base.js", "search.js", "card.js", "atlas.js", "circuits.js", "main.js")

SAID_ABOVE = ("read", "words")  # of the validation: the first page begins with them


def write_share(shared: Shared, out: Path | str, cfg: ShareConfig = SHARE) -> Path:
    """Write the page. Raises ScxError where it cannot be written."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, share_page(shared, cfg).encode("utf-8"))
    return out


def share_page(shared: Shared, cfg: ShareConfig = SHARE) -> str:
    """One HTML document. Scripts run by their hash alone; styles and data lie in it; nothing is fetched."""
    data = _Packed()
    about = _about(shared)
    if shared.atlas is not None:
        held = atlas_data(shared.atlas, cfg.features)
        data.add("atlas", held.columns)
        for k, block in enumerate(held.blocks):
            data.add(f"cards-{k}", block)
        about |= {"features": len(held.columns["layer"]), "left_out": held.left_out}
    for k, circuit in enumerate(shared.circuits.values()):
        data.add(f"circuit-{k}", circuit_data(circuit))
    for k, record in enumerate(shared.evidence):
        data.add(f"evidence-{k}", _report(record, shared.validation))
    if shared.validation is not None:
        data.add("validation", _validation_html(shared.validation))
    script = _script()
    words = {"title": about["title"], "subtitle": about["subtitle"]}
    return Template(_own("page.html")).substitute(
        {key: html.escape(text) for key, text in words.items()},
        policy=_policy(script, vis_network()),
        style=_own("share.css"),
        about=script_json(about),
        data=data.elements(),
        library=packed_text(vis_network()),
        script=script,
    )


class _Packed:
    """Data of the page, compressed, each under a name."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}

    def add(self, name: str, value: Any) -> None:
        """Anything that JSON can hold."""
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._parts[name] = packed_text(text)

    def elements(self) -> str:
        """One element a part, which no browser runs."""
        return "\n".join(
            f'<script type="text/plain" id="data-{name}">{packed}</script>'
            for name, packed in self._parts.items()
        )


def _script() -> str:
    """All that runs at once."""
    drawing = [asset("interactive/unpack.js"), asset("interactive/circuit.js")]
    return "\n".join([*drawing, *(_own(name) for name in SCRIPTS)])


def _policy(*scripts: str) -> str:
    """Nothing but these scripts runs; styles and images of the page itself; no request, frame or form."""
    marks = [base64.b64encode(hashlib.sha256(one.encode("utf-8")).digest()).decode() for one in scripts]
    allowed = " ".join(f"'sha256-{mark}'" for mark in marks)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _about(shared: Shared) -> dict[str, Any]:
    """What the page says of itself, and what it lists."""
    made = shared.about
    names = {part: _name(made.get(part)) for part in ("data", "model", "transcoders")}
    said = judged(shared.validation) if shared.validation is not None else None
    meta = shared.atlas.meta if shared.atlas is not None else {}
    return {
        "title": plain(shared.name, 80) or "A shared model",
        "subtitle": f"Transcoders: {names['transcoders'] or '–'}; cells: {names['data'] or '–'}",
        "verdict": {"read": said.read, "words": said.words} if said is not None else None,
        "circuits": [
            {"name": plain(name, 80), "cells": one.n_cells, "scope": one.scope}
            for name, one in shared.circuits.items()
        ],
        "evidence": [
            {"name": plain(one.label, 80), "far": one.ladder.got_as_far, "words": one.ladder.words}
            for one in shared.evidence
        ],
        "cells": int(meta.get("n_cells", 0)),
        "tokens": int(meta.get("n_tokens", 0)),
        "provenance": provenance_line(made),
        "made": _rows(made),
        "features": 0,
        "left_out": 0,
    }


def _name(part: Any) -> str:
    return plain(part.get("name", "") if isinstance(part, Mapping) else part or "", 60)


def _rows(made: Mapping[str, Any]) -> list[list[str]]:
    """The provenance as rows: part, what."""
    rows = []
    for key, value in made.items():
        if isinstance(value, Mapping):
            parts = [(name, _stated(one)) for name, one in value.items() if name not in SAID_ABOVE]
            text = ", ".join(f"{plain(name.replace('_', ' '), 40)} {one}" for name, one in parts if one)
        else:
            text = _stated(value)
        if text:
            rows.append([plain(key, 40), text])
    return rows


def _stated(value: Any) -> str:
    """A plain value as a person writes it; "" of anything else."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    return plain(value, 200) if isinstance(value, (str, int)) else ""


def _report(found: TypeEvidence, validation: Validation | None) -> str:
    """The report of a type as HTML, every name escaped."""
    document = document_of(found, validation)
    head = f"<h2>{html.escape(document.title)}</h2><p class='muted'>{html.escape(document.subtitle)}</p>"
    return head + "".join(section_html(section) for section in document.sections)


def _validation_html(found: Validation) -> str:
    parts = [figures_table(found), baselines_table(found), layers_table(found), classes_table(found)]
    cautions = [f"{one.text} {one.remedy}" for one in found.warnings]
    tables = [part_html(part) for part in (*parts, labels_table(found)) if part is not None]
    return "".join([*(part_html(text, True) for text in cautions), *tables])


@cache
def _own(name: str) -> str:
    return (Path(__file__).parent / "app" / name).read_text(encoding="utf-8")

"""The heads of an edge on the circuit page: nothing before a choice, then the parts and a table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pages.parts.circuits.paths_and_heads as part
from tests.pages.running import open_page, pick, said, well


def test_an_edge_of_one_cell_and_its_heads(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    whole = part.circuit_edge_heads

    def noted(tracer, circuit, edges, heads):
        asked.extend(edges)
        return whole(tracer, circuit, edges, heads)

    monkeypatch.setattr(part, "circuit_edge_heads", noted)
    app = well(open_page("circuits"))
    assert not [box for box in app.selectbox if box.label == "Edge"], "a consensus has no positions"
    pick(app, "Cells").set_value("One cell").run()
    box = pick(well(app), "Edge")
    assert box.value is None and not asked and len(box.options) > 5
    assert all(" → " in option for option in box.options)
    box.set_value(box.options[1]).run()
    words = said(well(app)).replace("**", "")
    weight, *parts = map(float, re.search(PARTS, words).groups())
    assert sum(parts) == pytest.approx(weight, abs=2e-3)
    table = next(frame.value for frame in app.dataframe if "looks_at" in frame.value)
    assert 0 < len(table) <= part.HEADS and (table["attention"] <= 1).all() and (table["rank"] >= 1).all()
    app.run()
    assert len(asked) == 1, "the same edge is not split twice"


PARTS = (
    r"([+-][\d.]+) (?:logits|nats|of pre-activation): ([+-][\d.]+) through no head, "
    r"([+-][\d.]+) through one, ([+-][\d.]+) through two and more"
)


def test_names_are_text_of_one_line() -> None:
    from scx_core.circuits import Circuit, Node, Target

    nodes = (
        Node("t:1", "embedding", position=1, gene="CD\n79\x07A"),
        Node("f:0:1:2", "feature", 0, 1, 2, None, " to\u202eken"),
        Node("target", "target"),
    )
    circuit = Circuit("cell", Target("x", "B\ncell", 2, {}), (), nodes, (), {}, {}, {})
    names = part.node_names(circuit)
    assert names["t:1"] == "CD 79 A (token 1)" and names["target"] == "B cell"
    assert all(name.isprintable() for name in names.values())

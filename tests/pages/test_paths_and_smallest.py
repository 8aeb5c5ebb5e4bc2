"""Paths and the smallest circuit on the circuit page: nothing before a person asks, then figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pages.parts.circuits.interventions as part
from scx_core.evidence.rankings.rankers import WORDS
from scx_core.evidence.rankings.rankings import RankingConfig
from scx_core.evidence.smallest.smallest_circuit import SmallestConfig
from tests.pages.running import open_page, pick, said, starting, well


def test_the_paths_of_one_cell_add_up(runs: Path) -> None:
    app = well(open_page("circuits"))
    assert not [one for one in app.toggle if one.label == "Follow the paths"], "a consensus has no paths"
    pick(app, "Cells").set_value("One cell").run()
    assert not [one for one in app.dataframe if "path" in one.value.columns]
    next(one for one in app.toggle if one.label == "Follow the paths").set_value(True).run()
    line = next(line for line in said(well(app)).replace("**", "").splitlines() if "end at tokens" in line)
    value, *parts = map(float, re.findall(r"[+-][0-9]+[.][0-9]{3}", line))
    assert len(parts) == 5 and sum(parts) == pytest.approx(value, abs=4e-3)
    (table,) = [one.value for one in app.dataframe if "path" in one.value.columns]
    assert table["contribution"].abs().is_monotonic_decreasing
    assert table["path"].str.startswith("target ← ").all()


def test_the_smallest_circuit_of_a_type(
    runs: Path, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = SmallestConfig(search_cells=2, unseen_cells=2, reference_cells=4, gradient_cells=1, compare=False)
    monkeypatch.setattr(part, "SmallestConfig", lambda: few)
    app = well(open_page("circuits"))
    assert "in 2 new cells" not in said(app)
    starting(app, "Search").click().run(timeout=240)
    line = next(line for line in said(well(app)).replace("**", "").splitlines() if "in 2 new cells" in line)
    size, kept = re.match(r"([0-9,]+) features? keep ([0-9.]+) [^]]+] of", line).groups()
    assert int(size) > 0 and float(kept) > 0.3
    (table,) = [one.value for one in app.dataframe if "unseen" in one.value.columns]
    assert table["size"].tolist() == [int(size)] * 2, "with random features beside"
    lines = said(app).replace("**", "").splitlines()
    first = next(i for i, one in enumerate(lines) if one.startswith("Without any feature"))
    assert first < lines.index(line) and re.search(
        r"[0-9.]+ of [0-9.]+ (logits|nats) of .* remain", lines[first]
    )
    assert any("random sets of the same size, layers and activation keep" in one for one in lines)
    app.run()
    assert "in 2 new cells" in said(app), "what was found stays"
    again = well(open_page("circuits"))
    assert "in 2 new cells" in said(again) and len(at_once) == 1, "in every session, and after a restart"


def test_who_else_could_have_named_the_genes(
    runs: Path, at_once: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = RankingConfig(genes=5, cells=2, measured=3, draws=1)
    monkeypatch.setattr(part, "RankingConfig", lambda: few)
    app = well(open_page("circuits"))
    assert not [one for one in app.dataframe if "ranking" in one.value.columns]
    starting(app, "Measure:").click().run(timeout=240)
    (table,) = [one.value for one in well(app).dataframe if "ranking" in one.value.columns]
    assert table["ranking"].tolist()[0].startswith("circuit") and len(table) == len(WORDS)
    assert (table["low"] <= table["drop"]).all() and (table["drop"] <= table["high"]).all()
    assert set(table["verdict"][1:]) <= set(part.RANKING_VERDICTS.values())
    assert "3 cells measured" in said(app)
    app.run()
    assert "3 cells measured" in said(app), "what was measured stays"

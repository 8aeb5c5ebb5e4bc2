"""Rankings against markers and each other: each figure against another implementation or a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from scx_core.circuits import make_tracer
from scx_core.errors import ScxError
from scx_core.evidence.rankings.marker_scores import (
    agreement,
    auroc,
    marker_lists,
    marker_scores,
    markers_of,
)
from scx_core.evidence.rankings.rankers import Halves, Rankers, attention_to_genes
from scx_core.language import encode_cells
from tests.tiny import LABELS, SYMBOLS, random_set, tiny_language, tiny_table

GENES = [f"g{number}" for number in range(40)]


def test_auroc_is_scikit_learns_and_its_interval_holds_one_half_under_chance():
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        score_G, positive_G = rng.integers(0, 12, 60).astype(float), rng.random(60) < 0.3
        found = auroc(score_G, positive_G)
        assert found.mean == pytest.approx(roc_auc_score(positive_G, score_G))
        held += found.low <= 0.5 <= found.high
    assert 180 <= held <= 198  # 95% of 200, within what chance gives
    assert auroc(np.arange(3.0), np.ones(3, dtype=bool)) is None


def test_precision_and_auroc_of_rankings_with_known_answers():
    markers = frozenset(GENES[:4])
    best, worst = marker_scores(GENES, GENES, markers), marker_scores(GENES[::-1], GENES, markers)
    assert best.precision == {"5": 0.8, "10": 0.4, "20": 0.2} and best.auroc.mean == 1.0
    assert worst.precision == {"5": 0.0, "10": 0.0, "20": 0.0} and worst.auroc.mean == 0.0
    assert marker_scores([], GENES, markers).auroc.mean == 0.5  # nothing ranked: all share a place
    outside = marker_scores(["other", *GENES], GENES, markers)
    assert outside == best  # a gene that no sentence holds takes no place
    assert agreement(GENES, GENES, GENES) == (1.0, pytest.approx(1.0))
    assert agreement(GENES[::-1], GENES, GENES) == (0.0, pytest.approx(-1.0))


def test_a_marker_file_takes_the_place_of_the_known_lists(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text('Label,Markers\nNK,"GNLY, nkg7"\nOdd Type,"A, B"\nB naive,MS4A1\n')
    lists = marker_lists(["CD56+ NK", "odd types", "Dendritic"], file, "Homo sapiens")
    assert lists == {"CD56+ NK": frozenset({"GNLY", "NKG7"}), "odd types": frozenset({"A", "B"})}
    assert markers_of("Dendritic", lists) is None and "CD1C" in markers_of("Dendritic", None)
    with pytest.raises(ScxError, match="no set for any of the types"):
        marker_lists(["Neutrophil"], file, "Homo sapiens")


def test_attention_and_rollout_are_those_of_the_models_own_patterns(tmp_path):
    lm = tiny_language(tmp_path, heads=2)
    tracer = make_tracer(lm, random_set(lm, "relu", skip=False), tiny_table(20))
    plan = tracer.plan(LABELS[0], kind="contrast")
    cells = encode_cells(lm, tracer.table, [0, 6])
    found = attention_to_genes(tracer.rep, plan, cells)
    for at, cell in enumerate(cells):
        ids = torch.tensor([plan.prompt_ids(cell)])
        with torch.no_grad():
            patterns = lm.model(ids, output_attentions=True).attentions
        rolled = torch.eye(ids.shape[1], dtype=patterns[0].dtype)
        for pattern in patterns:
            rolled = (0.5 * pattern[0].mean(0) + 0.5 * torch.eye(len(rolled), dtype=rolled.dtype)) @ rolled
        assert float(rolled[-1].sum()) == pytest.approx(1.0)
        mean = torch.stack([pattern[0, :, -1].mean(0) for pattern in patterns]).mean(0)
        for span in cell.spans:
            here = slice(span.start, span.end)
            assert found["attention"][at][span.gene] == pytest.approx(float(mean[here].sum()))
            assert found["rollout"][at][span.gene] == pytest.approx(float(rolled[-1, here].sum()))


def test_the_component_that_tells_a_type_apart_is_found_and_points_at_it(tmp_path):
    """One type alone has a block of genes: its component's loadings are largest there."""
    table = tiny_table(100)
    counts = np.random.default_rng(0).poisson(2.0, (100, len(SYMBOLS))).astype(np.float32)
    own = table.labels == "Dendritic"
    counts[np.ix_(own, range(6, 10))] += 30
    table.values = type(table.values)(counts)
    lm = tiny_language(tmp_path)
    tracer = make_tracer(lm, random_set(lm, "relu", skip=False), table)
    rows = {label: np.flatnonzero(table.labels == label) for label in table.types}
    score_G = Rankers(tracer, Halves(rows), 4, 0).component_scores("Dendritic")
    assert set(np.argsort(-score_G)[:4].tolist()) == {6, 7, 8, 9} and (score_G[6:10] > 0).all()

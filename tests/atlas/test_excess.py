"""Excess over random directions, the rule for gene sets, and what an atlas may say."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from scx_core.atlas import Atlas, RuleConfig, report, set_rule
from scx_core.atlas.collect.directions import threshold_at
from scx_core.atlas.gene_sets.gmt import GeneSet, GeneSets
from scx_core.atlas.judge.excess import interval
from scx_core.atlas.judge.protocol import MEASURES, VerdictThresholds, verdicts
from scx_core.atlas.tables.atlas import narrowed
from scx_core.claims.of_features import atlas_claims

GENES = [f"G{number}" for number in range(200)]


def test_the_interval_covers_and_equal_shares_do_not_exceed():
    """Features and draws from one share: 0 lies inside in about 95 of 100."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        drawn = rng.binomial(500, 0.3, 4) / 500
        found = interval(drawn[0], 500, drawn[1:], [500] * 3)
        inside += found.low <= 0 <= found.high
    assert inside >= 0.93 * 300
    assert interval(0.6, 500, [0.3, 0.31, 0.29], [500] * 3).low > 0.2


@pytest.mark.parametrize("ties", [1, 7])
def test_a_threshold_gives_the_rate(ties):
    values = np.repeat(np.random.default_rng(1).random(1000 // ties), ties).astype(np.float32)
    for k in (0, 14, 70, 301):
        assert abs(int((values > threshold_at(values, k)).sum()) - k) <= ties // 2


@pytest.mark.parametrize("k", [0, 5, 37, 99])
def test_a_threshold_holds_when_the_values_are_read_with_other_rounding(k):
    """Equal values, of one token, fire together or not at all, by whatever library they are made again."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(1, 0.3, 10), 10)
    again = values * (1 + rng.uniform(-1e-6, 1e-6, len(values)))
    level = threshold_at(values, k)
    assert ((values > level) == (again > level)).all()


def test_family_comes_before_gene_and_gene_only_beyond_the_token():
    row = {"frequency": 0.01, "fired": 100, "prompt": 0.0, "answer": 0.0, "n_half": 3, "rank_share": 0.1}
    row |= {"type_share": 0.1, "spelling": 0.0, "top5": 0.9, "family_share": 0.9, "token_share": 0.5}
    rows = [
        row,
        row | {"n_half": 1},  # one gene holds most: no family
        row | {"token_share": 0.95},
        row | {"token_share": 0.95, "spelling": 0.8},
        row | {"context_share": 0.7},
        row | {"context_share": 0.7, "token_share": 0.95},
        row | {"context_share": 0.7, "prompt": 0.9},
    ]
    said = verdicts(pd.DataFrame(rows).fillna({"context_share": 0.0}), VerdictThresholds())
    wanted = ["family", "gene", "token", "spelling", "context", "token", "context"]
    assert said["verdict"].tolist() == wanted


def _atlas(read_sets: bool) -> Atlas:
    """200 features whose ten genes are of one set, or drawn at random; random directions draw at random."""
    rng = np.random.default_rng(3)

    def lists(planted: bool) -> list[list[str]]:
        own = [rng.choice(200, 10, replace=False) for _ in range(200)]
        if planted:
            own = [
                np.r_[20 * (n % 10) + rng.choice(20, 6, replace=False), one[:4]] for n, one in enumerate(own)
            ]
        return [list(dict.fromkeys(f"G{number}" for number in one)) for one in own]

    mine = lists(read_sets)
    plain = {"layer": 0, "token_share": 0.5, "verdict": "gene"}
    features = pd.DataFrame({"feature": range(200), "genes": "", **plain})
    genes = pd.DataFrame(
        [(0, f, gene, 0.1) for f, one in enumerate(mine) for gene in one],
        columns=["layer", "feature", "gene", "share"],
    )
    rivals = [
        pd.DataFrame(
            {"source": name, "feature": range(200), "genes": [" ".join(one) for one in lists(False)], **plain}
        )
        for name in ("random1", "random2", "random3")
    ]
    slots = pd.DataFrame({"gene": GENES, "tokens": rng.integers(10, 1000, 200)})
    tables = {"features": features, "genes": genes, "baselines": pd.concat(rivals), "slots": slots}
    return Atlas({"n_layers": 1, "n_units": 200}, narrowed(tables))


@pytest.mark.parametrize("read_sets", [True, False])
def test_the_rule_of_the_field_beside_random_directions(read_sets):
    sets = GeneSets("mine", tuple(GeneSet(f"S{n}", tuple(GENES[20 * n : 20 * n + 20])) for n in range(10)))
    rows = set_rule(_atlas(read_sets), sets, RuleConfig(permutations=4))
    whole = rows[rows["of"] == "all"].set_index("rival")
    assert set(whole.index) == {
        "random directions",
        "names permuted",
        "names permuted among genes as frequent",
    }
    if read_sets:
        assert (whole["share"] > 0.95).all() and (whole["low"] > 0.5).all()
    else:
        assert whole.loc["random directions", "low"] <= 0 <= whole.loc["random directions", "high"]


def test_claims_hold_where_the_whole_interval_lies_above_nothing():
    cells = [60, 700]
    rows = [
        (n, name, layer, measure, share, 500)
        for n in cells
        for measure in MEASURES
        for layer in (-1, 0)
        for name, share in (
            ("main", 0.5 if measure == MEASURES[0] else 0.3),
            ("random1", 0.3),
            ("random2", 0.31),
        )
    ]
    curve = pd.DataFrame(rows, columns=["cells", "source", "layer", "measure", "share", "features"])
    features = pd.DataFrame({"layer": 0, "feature": range(4), "verdict": "gene"})
    atlas = Atlas({}, narrowed({"curve": curve, "features": features}))
    claims = {one.sentence: one for one in atlas_claims(atlas)}
    held = claims["More features than random directions fire at a few genes"]
    assert held.holds and held.interval[0] > 0 and (held.figure, held.n) == (0.5, 500)
    assert held.baseline == pytest.approx(0.305)
    assert not claims[
        "More features than random directions read other genes than the one they stand at"
    ].holds
    said = report(atlas)
    assert "**at a few genes**" in said and "60 cells" in said and "700 cells" in said
    assert atlas_claims(Atlas({}, {"features": pa.table({"layer": [0]})})) == []

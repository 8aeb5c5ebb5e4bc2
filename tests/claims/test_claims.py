"""The table of claims on the embedded default with few cells: one type of row, no part loses another."""

from __future__ import annotations

import inspect
import json
import math

import pytest

import scx_core.claims.gather as gather
from scx_core.atlas.feature_naming import fitting_atlas, name_book
from scx_core.cells import open_cells
from scx_core.circuits import make_tracer
from scx_core.claims import PARTS, ClaimsConfig, all_claims, claims_text, quick
from scx_core.claims.claim import Claim
from scx_core.claims.of_features import name_claims
from scx_core.cli.main import main
from scx_core.errors import ScxError
from scx_core.language import load_language
from scx_core.transcoders import load_set

CFG = ClaimsConfig(cells=4, test_cells=6, answer_cells=2, ranked=2, types=1, pairs=1)


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm, coders, table = load_language("embedded", "cpu"), load_set("embedded"), open_cells("embedded")
    book = name_book({"model": lm, "transcoders": coders, "data": table}, tmp_path_factory.mktemp("no runs"))
    return make_tracer(lm, coders, table, book)


@pytest.fixture(scope="module")
def atlas(tracer, tmp_path_factory):
    parts = {"model": tracer.lm, "transcoders": tracer.transcoders, "data": tracer.table}
    return fitting_atlas(parts, tmp_path_factory.mktemp("no runs"))


@pytest.fixture(scope="module")
def found(tracer, atlas):
    """The parts that take seconds; the others are rows of rooms with tests of their own."""
    only = ("answers", "circuits", "effects", "names", "atlas")
    return all_claims(tracer, atlas, only, CFG)


def part(found, name):
    return {one.name: one for one in found.parts}[name]


def test_every_row_is_a_sentence_with_its_rival(found):
    assert not [one.failed for one in found.parts if one.failed]
    for one in found.parts:
        assert one.claims
        for claim in one.claims:
            assert type(claim) is Claim and claim.sentence[0].isupper() and claim.beside and claim.n > 0
            assert claim.baseline is not None and not math.isnan(claim.figure)
            if claim.interval is not None and "excess" not in claim.beside:
                low, high = claim.to_json()["interval"] or (-math.inf, math.inf)
                assert low <= high
    json.dumps(found.to_json(), allow_nan=False)


def test_called_is_the_whole_answer_and_nobody_is_left_unnamed(found):
    *types, called, named = part(found, "answers").claims
    assert called.figure == 1.0 and called.holds and called.baseline < 1.0, "one token says something else"
    assert named.figure == 1.0 and named.holds
    never = next(claim for claim in types if "Memory" in claim.sentence)
    assert not never.holds, "the model hardly ever answers so"


def test_measured_knock_outs_are_those_of_a_plain_pass(found):
    *_, exact = part(found, "effects").claims
    assert 0 < exact.figure <= 1e-5 and exact.holds
    frozen, estimated = part(found, "effects").claims[:2]
    assert estimated.figure > frozen.figure and frozen.baseline == pytest.approx(estimated.figure)


def test_names_are_true_and_those_by_the_driver_are_not(found, tracer, atlas):
    claims = part(found, "names").claims
    assert all(claim.holds and claim.figure == 1.0 for claim in claims)
    assert all(claim.baseline < 0.5 for claim in claims)
    circuit = tracer.consensus("CD19+ B", cfg=gather.ConsensusConfig(cells=4))
    wrong = tuple(
        node._replace(name=node.driven_by, name_kind="gene") if node.driven_by else node
        for node in circuit.nodes
    )
    assert not name_claims([circuit._replace(nodes=wrong)], atlas)[0].holds


def test_a_part_that_fails_loses_no_other(tracer, monkeypatch):
    def breaks(asked):
        raise RuntimeError("it broke")

    monkeypatch.setattr(gather, "PARTS", PARTS | {"set": ("set", breaks)})
    found = all_claims(tracer, None, ("set", "names", "circuits"), CFG)
    assert [bool(one.failed) for one in found.parts] == [True, True, False]
    assert "it broke" in found.parts[0].failed and "no atlas" in found.parts[1].failed
    text = claims_text(found.to_json())
    assert "it broke" in text and "add up to the node" in text
    with pytest.raises(ScxError, match="no part"):
        all_claims(tracer, None, ("nothing",), CFG)


def test_quick_has_fewer_cells():
    assert quick().cells < ClaimsConfig().cells and quick().types == 2


def test_the_command_writes_the_table(capsys, tmp_path):
    file = tmp_path / "claims.json"
    assert main(["claims", "--only", "atlas", "--markdown", "--json", str(file)]) == 0
    text, saved = capsys.readouterr().out, json.loads(file.read_text())
    assert "| sentence | figure [95%] | beside | n | holds |" in text
    assert "random directions" in text and saved["parts"][0]["name"] == "atlas"
    assert len(saved["parts"][0]["claims"]) == text.count("\n| ") - 2


def test_every_part_that_is_written_is_asked():
    made = [
        one for one in vars(gather).values() if inspect.isfunction(one) and one.__module__ == gather.__name__
    ]
    parts = {one for one in made if list(inspect.signature(one).parameters) == ["asked"]}
    assert len(parts) > 5 and parts <= {ask for _, ask in PARTS.values()}
    assert {"set", "circuits", "effects", "rankings", "atlas"} <= set(PARTS)

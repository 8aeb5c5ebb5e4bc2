"""A table read back from its file, and the rows that are measured."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scx_core.errors import ScxError
from scx_core.runs import write_json
from scx_core.validation import cautions, verdict
from scx_core.validation.rows import draw_rows, held_out_rows
from scx_core.validation.saved import FILE, from_json, validation_beside
from tests.tiny import tiny_language, tiny_table
from tests.validation.sets import random_set
from tests.validation.test_warnings import GOOD

MARKS = {"data": "d", "model": "m", "transcoders": "t"}
FOUND = GOOD._replace(
    kl=math.nan,
    ce_recovered=0.5,
    provenance={key: {"name": key, "fingerprint": mark} for key, mark in MARKS.items()},
)


def test_a_table_survives_its_file() -> None:
    found = FOUND._replace(warnings=cautions(FOUND))
    again = from_json(json.loads(json.dumps(found.to_json())))
    assert math.isnan(again.kl)
    assert again._replace(kl=0.0) == found._replace(kl=0.0)
    assert verdict(again) == verdict(found)


def test_keys_that_a_later_version_adds_are_left_out() -> None:
    assert from_json(FOUND.to_json() | {"verdict": "fine", "paper": {}}).n_cells == FOUND.n_cells


def test_only_the_table_of_these_very_things_is_taken(tmp_path: Path) -> None:
    assert validation_beside(None, MARKS) is None
    assert validation_beside(tmp_path, MARKS) is None
    write_json(tmp_path / FILE, FOUND.to_json())
    assert validation_beside(tmp_path, MARKS) is not None
    assert validation_beside(tmp_path, MARKS | {"data": "other"}) is None


@pytest.mark.parametrize("content", ["{}", "[]", '{"confusion": 3}'])
def test_a_damaged_table_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ScxError, match="no validation table"):
        validation_beside(tmp_path, MARKS)


def test_held_out_rows_are_new_to_model_and_set(tmp_path: Path) -> None:
    table = tiny_table(20)
    split = {
        "by": "random",
        "seed": 3,
        "held_out_share": 0.2,
        "train": list(range(16)),
        "held_out": [16, 17, 18, 19],
    }
    settings = {"provenance": {"data": {"fingerprint": table.fingerprint}}, "split": split}
    lm = tiny_language(tmp_path, settings=settings)
    coders = replace(random_set(lm), meta={"train": {"seed": 1, "a setting of another version": 2}})
    assert held_out_rows(lm, coders, table).tolist() == [16, 17, 18, 19]
    strange = SimpleNamespace(labels=np.array(["a", "", "b"], dtype=object), fingerprint="never seen")
    assert held_out_rows(lm, coders, strange).tolist() == [0, 2]


def test_rows_are_drawn_with_the_seed() -> None:
    rows = np.arange(100, 200)
    some = draw_rows(rows, 10, seed=5)
    assert len(some) == 10 == len(set(some.tolist())) and (np.diff(some) > 0).all() and set(some) <= set(rows)
    assert some.tolist() == draw_rows(rows, 10, seed=5).tolist() != draw_rows(rows, 10, seed=6).tolist()
    assert draw_rows(rows, 1000).tolist() == rows.tolist()

"""Names from files are text, whatever they hold; the session is kept on disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.parts.common.results import Memory
from pages.parts.common.session import KEY
from pages.parts.common.words import count, duration, large, safe, short, size

ESCAPED, SPECIAL = re.compile(r"\\([!-/:-@\[-`{-~])"), re.compile(r"[!-/:-@\[-`{-~]")


@given(st.text())
def test_no_punctuation_of_a_name_acts_as_markdown(name: str) -> None:
    shown = safe(name)
    assert not SPECIAL.search(ESCAPED.sub("", shown))
    assert "\n" not in shown
    assert ESCAPED.sub(r"\1", shown) == " ".join(name.split())


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "–"), (0.2, "1 s"), (75, "75 s"), (120, "2 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_counts_and_sizes_carry_units() -> None:
    assert (count(1, "cell"), count(2638, "cell")) == ("1 cell", "2,638 cells")
    assert (size(2.5e9), size(16e6)) == ("2.5 GB", "16 MB")
    assert [large(n) for n in (640, 64_000, 1_100_544, 4.1e8)] == ["640", "64 k", "1.1 M", "410 M"]


def test_a_source_in_a_run_goes_by_the_runs_name() -> None:
    assert short("/data/runs/pbmc/model") == "pbmc"
    assert short("/data/cells.h5ad") == "cells.h5ad"
    assert short("vandijklab/C2S") == "C2S"


def test_memory_keeps_the_newest_and_nothing_of_a_failure() -> None:
    memory: Memory[int] = Memory(2)
    with pytest.raises(ZeroDivisionError):
        memory.get("a", lambda: 1 // 0)
    assert memory.peek("a") is None
    for value, key in enumerate("aba", 1):
        memory.get(key, lambda value=value: value)
    assert memory.get("a", lambda: 99) == 1
    memory.get("c", lambda: 3)
    assert memory.peek("b") is None  # a was used after b


def test_what_was_used_last_is_offered_to_a_fresh_session_and_not_imposed(runs: Path) -> None:
    from streamlit.testing.v1 import AppTest

    def choose() -> None:
        from pages.parts.common.session import use

        use(data="/data/cells.h5ad", device="cpu")

    def look() -> None:
        import streamlit as st

        from pages.parts.common.session import context

        st.write(context().data, context().device)

    def offer() -> None:
        import streamlit as st

        from pages.parts.common.session import go_on_with, offered

        before = offered()
        st.write(str(before and before.data))
        if before is not None:
            go_on_with(before)

    AppTest.from_function(choose).run()
    assert AppTest.from_function(look).run().markdown[0].value == "embedded auto", (
        "imposed on another session"
    )
    fresh = AppTest.from_function(offer).run()
    assert fresh.markdown[0].value == "/data/cells.h5ad"
    assert fresh.session_state[KEY].device == "cpu"
    assert fresh.run().markdown[0].value == "None", "offered to one who uses it"
    (runs / "last-used.json").write_text('{"data": 3', encoding="utf-8")
    assert AppTest.from_function(offer).run().markdown[0].value == "None"

"""An upload lands where it should, once, under a name that is only a name."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from scx_core.cells.formats.sources import keep_upload, upload_name


@given(st.text())
def test_a_name_is_one_plain_part(name: str) -> None:
    kept = upload_name(name)
    assert kept and kept == Path(kept).name
    assert kept not in (".", "..") and not kept.startswith((".", "-", " "))
    assert kept.isascii() and kept.isprintable() and len(kept) <= 80
    assert not set(kept) & set("/\\<>:\"'|?*&;$`")


def test_endings_say_what_a_file_is_and_are_kept() -> None:
    assert upload_name("C:\\data\\My cells.v2.h5ad") == "My cells.v2.h5ad"
    assert upload_name("CON.h5ad") == "CON_.h5ad"
    assert upload_name("x" * 200 + ".mtx.gz").endswith(".mtx.gz")


def test_the_same_content_is_written_once(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    first = keep_upload("../a.h5ad", io.BytesIO(content), tmp_path)
    assert first.read_bytes() == content
    assert first.parent.parent == tmp_path
    stamp = first.stat().st_mtime_ns
    assert keep_upload("a.h5ad", io.BytesIO(content), tmp_path) == first
    assert first.stat().st_mtime_ns == stamp
    assert keep_upload("a.h5ad", io.BytesIO(content[1:]), tmp_path) != first

"""A real notebook, executed by a kernel: results and figures are displayed, bars are a notebook's and go."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CELLS = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport scx_core as scx\ntracer = scx.tl.tracer()",
    "scx.tl.consensus(tracer, 'CD19+ B', n_cells=2)",
    "axes = scx.pl.genes(scx.tl.trace_cell(tracer, 0, nodes=32))",
    "axes = scx.pl.genes(scx.tl.trace_cell(tracer, 0, nodes=32), show=False)",
    "print(scx.tl.trace_cell(tracer, 0, nodes=32))",
)


def test_a_kernel_shows_what_results_say_they_are(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    done = nbclient.NotebookClient(
        book, timeout=200, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [cell["outputs"] for cell in done["cells"]]
    opened, circuit, figure, hidden, printed = outputs
    assert not opened, "opening a model says nothing"
    shown = next(one["data"] for one in circuit if one["output_type"] == "execute_result")
    assert "<iframe" in shown["text/html"] and len(shown["text/html"]) < 1_500_000
    assert shown["text/plain"].startswith("<Circuit 'CD19+ B against")
    assert not [one for one in circuit if one["output_type"] == "stream"], "a bar of letters"
    assert [list(one["data"]) for one in figure] == [["image/png", "text/plain"]]
    assert not hidden
    assert printed[0]["text"].count("\n") == 1 and printed[0]["text"].startswith("<Circuit")
    nbformat.validate(done)

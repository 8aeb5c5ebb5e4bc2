"""The Pareto plot: what is drawn, what is left out and said, names that do not overlap."""

import io
from itertools import combinations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scx_core.errors import ScxError
from scx_core.figures import export_comparison, pareto_figure, pareto_picture
from scx_core.figures.drawing.placing import Label, labels_placed
from scx_core.figures.pareto import STYLES, front, style_of
from scx_core.validation import RunRow

KNOWN = {"tool": {"name": "scX", "version": "1"}, "model": {"name": "m<b>", "fingerprint": "abcdef1234"}}


def row(name: str, l0: float, ce: float, kind: str = "topk", **more) -> RunRow:
    made = RunRow(name, "done", kind, f"k {l0:g}", l0=l0, ce_recovered=ce, measured="held-out")
    return made._replace(**more)


def table(*rows: RunRow) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=RunRow._fields)


SOME = table(
    row("first", 4, 0.98),
    row("second", 8, 0.99),
    row("worse", 9, 0.97),
    row("skip", 8, 0.995, skip=True),
    row("$x^2$ <i>", 8, 0.96, kind="relu", measured="while training"),
    row("elsewhere", 8, 0.5, comparable=False),
    row("nothing yet", float("nan"), float("nan")),
    row("too good", 8, 1.01),
)


def words_of(figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_comparable_runs_are_drawn_and_the_others_are_told_of():
    said = words_of(pareto_figure(SOME, KNOWN))
    for part in ("first (k 4)", "worse (k 9)", "$x^2$ <i> (k 8)", "TopK, affine skip", "ReLU", "abcdef12"):
        assert part in said
    assert "elsewhere" not in said and "too good" not in said
    assert "would not compare (the table says why): 1 run" in said
    assert "not above 0: 1 run" in said and "without figures yet: 1 run" in said and "hollow" in said


def test_a_line_joins_the_runs_that_nothing_of_their_kind_beats():
    rows = SOME[(SOME["kind"] == "topk") & SOME["comparable"] & ~SOME["skip"]].dropna(subset=["l0"])
    rows = rows.assign(loss=1 - rows["ce_recovered"])
    assert list(front(rows[rows["loss"] > 0])["run"]) == ["first", "second"]
    figure = pareto_figure(SOME, KNOWN)
    lines = [line for line in figure.axes[1].lines if line.get_linestyle() != "None"]
    assert sorted(len(line.get_xdata()) for line in lines) == [1, 1, 2]


def test_kinds_differ_in_colour_and_marker():
    assert len({style.colour for style in STYLES.values()}) == len({s.marker for s in STYLES.values()}) == 4


def test_files_are_of_their_format_and_always_the_same(tmp_path):
    written = export_comparison(SOME, tmp_path, KNOWN)
    assert [path.name for path in written] == [
        "runs.png", "runs.svg", "runs.pdf", "runs.csv", "runs.provenance.json"
    ]  # fmt: skip
    starts = (b"\x89PNG", b"<?xml", b"%PDF", b"\xef\xbb\xbfrun,state", b"{")
    for path, start in zip(written, starts, strict=True):
        assert path.read_bytes().startswith(start)
    assert pareto_picture(SOME, "svg", KNOWN) == (tmp_path / "runs.svg").read_bytes()
    back = pd.read_csv(io.BytesIO((tmp_path / "runs.csv").read_bytes()))
    assert list(back["run"]) == list(SOME["run"]) and list(back.columns) == list(RunRow._fields[:-1])


def test_nothing_to_draw_and_unknown_formats_are_refused(tmp_path):
    with pytest.raises(ScxError, match="No run has an L0"):
        pareto_figure(SOME.iloc[5:], KNOWN)
    with pytest.raises(ScxError, match="'gif'"):
        export_comparison(SOME, tmp_path / "out", KNOWN, ["png", "gif"])
    assert not (tmp_path / "out").exists()


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.floats(100, 900), st.floats(100, 500), st.text("ab-1", min_size=1, max_size=30)),
        max_size=30,
    )
)
def test_names_stay_inside_and_never_overlap(points):
    room = (90.0, 90.0, 910.0, 510.0)
    labels = [Label(x, y, words, 10.0) for x, y, words in points]
    found = labels_placed(labels, room)
    for label in found:
        left, top, right, bottom = label.box
        assert left >= room[0] and top >= room[1] and right <= room[2] and bottom <= room[3]
    for one, other in combinations([label.box for label in found], 2):
        assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
    if len(labels) == 1:
        assert len(found) == 1


def test_saes_have_a_line_of_their_own():
    names = [style_of("topk", form) for form in ("transcoder", "sae", "cross-layer")]
    assert [style.name for style in names] == ["TopK", "TopK SAE", "TopK cross-layer"]
    assert len({style.colour for style in names}) == 3 and len({style.marker for style in names}) == 1
    both = table(row("a", 8, 0.99), row("b", 8, 0.98)._replace(form="sae"))
    texts = [text.get_text() for axes in pareto_figure(both, KNOWN).axes for text in axes.texts]
    assert "TopK SAE" in texts and "TopK" in texts


def test_the_longest_legend_entries_have_room_beside_each_other():
    every = [(kind, form) for kind in STYLES for form in ("transcoder", "sae", "cross-layer")]
    rows = [
        row(f"{n}", 8 + n, 0.9, kind)._replace(form=form, skip=True) for n, (kind, form) in enumerate(every)
    ]
    figure = pareto_figure(table(*rows), KNOWN)
    figure.canvas.draw()
    entries = [text for axes in figure.axes for text in axes.texts if text.get_text().endswith("affine skip")]
    boxes = [text.get_window_extent() for text in entries]
    assert len(boxes) == len(every)
    mark = 42 * figure.bbox.width / 1000  # the line and the marker in front of the words
    for one, other in combinations(boxes, 2):
        beside = one.x1 <= other.x0 - mark or other.x1 <= one.x0 - mark
        assert beside or abs(one.y0 - other.y0) > 0.7 * one.height

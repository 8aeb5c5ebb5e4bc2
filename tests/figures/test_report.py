"""The report: offline, safe with any name, small; and three of its figures computed again from its files."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from scx_core.errors import ScxError
from scx_core.figures.drawing.fonts import all_letters
from scx_core.figures.drawing.pen import POINTS_PER_UNIT
from scx_core.figures.report import Picture, Table, document_of, report_page, report_pdf, write_report
from scx_core.figures.report.files_of_tables import table_bytes
from scx_core.figures.report.print_out import ROOM, _fit, _wrap, scale_of
from tests.builders.evidence import LABEL, feature_answers, tiny_evidence
from tests.builders.hostile import HOSTILE_TEXTS
from tests.builders.hostile_results import hostile_evidence
from tests.figures.test_html import _Page

MOST = 10_000_000  # bytes
A4_TEXT_MM = 180.0


@pytest.fixture(scope="module")
def found():
    return tiny_evidence().of(LABEL)


@pytest.fixture(scope="module")
def hostile(found):
    """The record with every name of a gene, type or label replaced by somebody's markup."""
    return hostile_evidence(found)


@pytest.fixture(scope="module")
def answered(hostile):
    """The same with an answer of every further question, their names somebody's markup."""
    bad = HOSTILE_TEXTS[0]
    edits, held = feature_answers()
    edits = edits | {"answer": bad, "features": [one | {"name": bad} for one in edits["features"]]}
    span = {"mean": 0.2, "low": 0.1, "high": 0.3}
    rival = {"name": "co-expression", "mean": 0.1, "behind": span}
    row = {"relation": "direct", "way": "circuits", "pairs": 50, "hits": 4, "expected": 2.0, "fold": 2.0}
    row |= {"low": 0.5, "high": 6.0, "p": 0.2, "graph_fold": None, "graph_p": None}
    found = {
        "steer": edits,
        "redundancy": held,
        "transfer": {"first": bad, "second": bad, "shared": 9, "top": 20, "expected": 2.0, "p": 0.01, "n": 9,
                     "pairs": 2, "differential": 8, "common": [bad]},
        "perturbations": {"data": bad, "targets": 13, "mean": span, "p": 0.2, "same": 9, "signs": 20,
                          "rivals": [rival]},
        "network": {"enough": False, "expected": 2.0, "rows": [row]},
        "stability": {"parts": [{"what": "model seeds", "jaccard": span, "chance": 0.1, "n": 4, "why": "",
                                 "comparisons": 1, "units": "cells"}]},
    }  # fmt: skip
    return hostile._replace(further=[
        {"question": question, "says": bad, "source": bad, "found": one} for question, one in found.items()
    ])  # fmt: skip


def test_answers_of_other_questions_stand_in_the_report_each_with_its_rival(answered, found):
    sections = {section.title: section for section in document_of(answered).sections}
    tables = {
        title: [part for part in sections[title].parts if isinstance(part, Table)]
        for title in (
            *("Ablation and steering of features", "Redundancy", "Another study", "Measured perturbations"),
            *("Curated network", "Stability"),
        )
    }
    for title, rival in (
        ("Ablation and steering of features", "random features"),
        ("Another study", "by chance"),
        ("Measured perturbations", "co-expression"),
        ("Curated network", "expected"),
        ("Redundancy", "random genes"),
    ):
        words = str([(one.header, one.shown) for one in tables[title]])
        assert rival in words, title
    assert "model seeds" in str(tables["Stability"][0].shown)
    doses = tables["Ablation and steering of features"][0]
    assert [row["dose"] for row in doses.rows] == [0.5, 1.0, 2.0]
    assert doses.rows[0]["change"] == feature_answers()[0]["doses"][0]["effect"]["log_odds"]["mean"]
    bare = {section.title: section.parts for section in document_of(found).sections}
    assert "scx evidence steer" in bare["Ablation and steering of features"][0]
    assert "scx evidence transfer" in bare["Another study"][0]


@pytest.mark.parametrize("which", ["found", "hostile", "answered"])
def test_the_page_fetches_nothing_and_runs_nothing(which, request):
    text = report_page(document_of(request.getfixturevalue(which)))
    page = _Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not {"script", "iframe", "object", "embed", "link", "form"} & tags
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert len(text.encode()) < MOST


def test_names_are_text(hostile):
    page = _Page(report_page(document_of(hostile)))
    assert not [a for tag, a in page.elements if tag == "img" and a.get("src") == "x"]
    assert any("<img src=x" in text for text in page.texts)


def test_the_model_and_biology_stand_apart_and_every_part_is_there(found):
    titles = [section.title for section in document_of(found).sections]
    for wanted in (
        *("In short", "Warnings", "The circuit", "Genes", "Joint knock-outs", "Dose", "Stability", "Limits"),
        *("Sufficiency and necessity", "Methods", "References", "Provenance", "Curated markers"),
    ):
        assert wanted in titles
    model, biology = titles.index("What is true of the model"), titles.index("What is true of biology")
    assert model < titles.index("Joint knock-outs") < titles.index("Stability") < biology
    assert biology < titles.index("Curated markers")


def test_the_pdf_has_pages_and_is_the_same_each_time(answered):
    made = report_pdf(document_of(answered))
    assert made.startswith(b"%PDF") and made == report_pdf(document_of(answered))
    assert 3 <= len(re.findall(rb"/Type /Page\b", made)) <= 15 and len(made) < MOST


def test_a_report_is_written_with_its_tables_or_refused(found, tmp_path):
    files = write_report(found, tmp_path / "one.html")
    assert {path.name for path in files} >= {"one.html", "evidence.json", "joint_knockouts.csv", "ladder.csv"}
    assert json.loads((tmp_path / "one_tables" / "evidence.json").read_text())["label"] == found.label
    with pytest.raises(ScxError, match=r"\.html or \.pdf"):
        write_report(found, tmp_path / "one.docx")


def test_tables_are_guarded_for_spreadsheets(hostile):
    for table in document_of(hostile).tables:
        for row in csv.reader(table_bytes(table).decode("utf-8-sig").splitlines()):
            for value in row:
                assert not value.startswith(("=", "@", "+")), (table.name, value)


# What another person would write: it knows the files, and nothing of scX.
STRANGER = r"""
import csv, json, math, sys
from pathlib import Path
from statistics import fmean

folder = Path(sys.argv[1])

def rows(name):
    with open(folder / f"{name}.csv", encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))

def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    out = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for i in order[start:end + 1]:
            out[i] = (start + end) / 2
        start = end + 1
    return out

def spearman(x, y):
    a, b = ranks(x), ranks(y)
    ma, mb = fmean(a), fmean(b)
    top = sum((p - ma) * (q - mb) for p, q in zip(a, b))
    low = math.sqrt(sum((p - ma) ** 2 for p in a) * sum((q - mb) ** 2 for q in b))
    return top / low if low else 0.0

# 1. rank correlation with single knock-outs, mean over cells
cells = {}
for row in rows("knockouts_by_cell"):
    cells.setdefault(row["row"], []).append(row)
correlation = {
    name: fmean(spearman([float(r[name]) for r in c], [float(r["gap"]) for r in c]) for c in cells.values())
    for name in ("circuit", "gradient")
}
# 2. the dose curve
drops = {}
for row in rows("doses_by_cell"):
    drops.setdefault((row["ranking"], row["size"]), []).append(float(row["drop"]))
doses = {" ".join(key): fmean(values) for key, values in drops.items()}
# 3. the areas under the curves over log2(1 + size)
areas = {}
curves = {}
for row in rows("curve_points"):
    curves.setdefault((row["way"], row["reference"]), []).append((int(row["size"]), float(row["share"])))
for key, points in curves.items():
    x = [0.0] + [math.log2(1 + size) for size, _ in points]
    y = [0.0] + [share for _, share in points]
    area = sum((x[i + 1] - x[i]) * (y[i] + y[i + 1]) / 2 for i in range(len(points)))
    areas[" ".join(key)] = area / x[-1]
print(json.dumps({"correlation": correlation, "doses": doses, "areas": areas}))
"""


def test_a_strangers_script_recomputes_three_figures_from_the_files(found, tmp_path: Path):
    write_report(found, tmp_path / "report.html")
    script = tmp_path / "stranger.py"
    script.write_text(STRANGER, encoding="utf-8")
    command = [sys.executable, "-I", str(script), str(tmp_path / "report_tables")]
    made = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for name in ("circuit", "gradient"):
        assert made["correlation"][name] == pytest.approx(
            found.prediction[name]["spearman"]["mean"], abs=1e-9
        )
    assert len(made["doses"]) == len(found.doses) == 20
    for row in found.doses:
        assert made["doses"][f"{row['ranking']} {row['size']}"] == pytest.approx(row["mean"], abs=1e-9)
    assert found.curves is not None and len(made["areas"]) == 4
    for one in found.curves["curves"]:
        assert made["areas"][f"{one['way']} {one['reference']}"] == pytest.approx(
            one["area"]["mean"], abs=1e-9
        )
    assert not math.isnan(sum(made["areas"].values()))


def test_no_word_of_a_printed_picture_is_smaller_than_five_points(found, hostile):
    """A picture that is too tall for a page is made smaller, and its letters with it."""
    for one in (found, hostile):
        pictures = [part for section in document_of(one).sections for part in section.parts
                    if isinstance(part, Picture)]  # fmt: skip
        assert len(pictures) >= 3
        for picture in pictures:
            figure = picture.draw()
            shrunk = scale_of(figure, picture.caption) * A4_TEXT_MM / (25.4 * figure.get_size_inches()[0])
            with all_letters(figure):
                figure.draw_without_rendering()
            letters = [text for text in figure.findobj(Text) if text.get_text().strip()]
            assert min(text.get_fontsize() for text in letters) * shrunk >= 5.0 - 1e-6, picture.name


def test_the_columns_of_a_printed_table_stand_apart(found, hostile):
    """As they are really drawn, headings in bold included."""
    renderer = FigureCanvasAgg(Figure()).get_renderer()

    def width(words: str, size: float) -> float:
        drawn = Text(0, 0, words, fontsize=size * POINTS_PER_UNIT, fontweight="bold", family="DejaVu Sans")
        drawn.set_figure(renderer_figure)
        return drawn.get_window_extent(renderer).width / renderer_figure.dpi * 72 / POINTS_PER_UNIT

    renderer_figure = Figure()
    for one in (found, hostile):
        for section in document_of(one).sections:
            for table in (part for part in section.parts if isinstance(part, Table)):
                size, widths = _fit(table)
                assert sum(widths) <= ROOM + 1
                for lines, room in zip(_wrap(table.header, widths, size), widths, strict=True):
                    assert max(width(line, size) for line in lines) <= room - 4.0, table.title

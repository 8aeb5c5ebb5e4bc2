"""Examples of a feature: every text is escaped, words stay apart, the peak is marked."""

import re

from scx_core.figures.coloured_text import Shown, examples_html


def test_texts_are_escaped_and_words_stay_apart():
    row = Shown([" <b>", "x", "\n", " CD4"], [0.0, 0.5, 0.0, 1.0], 3, ("1.0 <i>", "a & b"))
    page = examples_html([row], 1.0)
    assert "<b>x" not in page and "&lt;b&gt;" in page and "1.0 &lt;i&gt;" in page and "a &amp; b" in page
    assert "⏎" in page and "<script" not in page
    spans = re.findall(r"( ?)<span style=\"([^\"]*)\" title=\"([^\"]*)\">([^<]*)</span>", page)
    assert [(blank, text) for blank, _, _, text in spans] == [("", "x"), (" ", "CD4")]
    assert ["outline" in style for _, style, _, _ in spans] == [False, True]


def test_a_stronger_activation_has_a_fuller_colour():
    page = examples_html([Shown(["a", "b"], [0.1, 1.0], 1, ("", ""))], 1.0)
    weak, strong = re.findall(r"background:(#[0-9A-F]{6})", page)
    assert int(weak[5:], 16) > int(strong[5:], 16)

"""One safe line from any text, numbers as people write them, and colours that can be read on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scx_core.figures.drawing import colours
from scx_core.figures.drawing.text import fitted, number, one_row, percent, plain, signed, text_width, wrapped


@given(st.text())
def test_plain_is_one_printable_line(text):
    line = plain(text)
    assert len(line.splitlines()) <= 1
    assert line == line.strip()
    assert not any(ord(c) < 32 or c in "\u202e\u2028\u2029\u200b" for c in line)
    assert plain(line) == line


def test_plain_shortens_with_an_ellipsis_and_keeps_markup_as_text():
    assert plain("abcdefgh", 5) == "abcd…"
    assert plain("<b>\nx\t y") == "<b> x y"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.2345, "1.23"),
        (-0.5, "−0.500"),
        (123.4, "123"),
        (99999.0, "99999"),
        (float("nan"), "not a number"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_signs_and_percentages():
    assert signed(1.0) == "+1.00"
    assert signed(-1.0) == "−1.00"
    assert [percent(x) for x in (0.0, 0.004, 0.124, 1.0)] == ["0%", "0.4%", "12%", "100%"]


@given(st.text(max_size=80), st.floats(40, 400))
def test_fitted_and_wrapped_lines_fit(text, room):
    text = plain(text)
    assert text_width(fitted(text, room, 12.0), 12.0, bold=True) <= room
    assert all(text_width(line, 12.0) <= room for line in wrapped(text, room, 12.0))
    assert text_width(*one_row(text, room)) <= room


def test_every_fill_carries_readable_text():
    fills = [colours.effect_colour(step / 50, 1.0) for step in range(-50, 51)]
    fills += [colours.share_colour(step / 50) for step in range(51)] + [colours.INK]
    assert min(colours.contrast(colours.ink_on(fill), fill) for fill in fills) >= 4.5
    assert colours.contrast(colours.MUTED, colours.PAPER) >= 4.5


def test_effects_of_either_sign_get_apart_and_are_clipped():
    assert colours.effect_colour(5.0, 1.0) == colours.effect_colour(1.0, 1.0)
    assert colours.effect_colour(0.5, 1.0) != colours.effect_colour(-0.5, 1.0)
    assert colours.effect_colour(0.5, 0.0) == colours.effect_colour(0.0, 1.0)
    assert colours.contrast("#000000", "#FFFFFF") == pytest.approx(21.0)

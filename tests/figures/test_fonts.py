"""Letters that matplotlib's own font lacks: drawn with an installed font that has them, or named in words.

The fonts of the machine play no part here, but for the last test: the ones that are "installed" are made.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from scx_core.figures import View, circuit_picture, simplify
from scx_core.figures.drawing import fonts
from scx_core.figures.drawing.pen import Pen, picture_bytes
from scx_core.figures.report.parts import Document, Picture, Section
from scx_core.figures.report.print_out import report_pdf
from tests.figures.fakes import cell_circuit, hostile_circuit

CHINESE, KOREAN, EMOJI = "细胞", "세포", "\U0001f9ec"


def _font(path, family: str, letters: str) -> str:
    """A font file whose every letter is a full square, one em wide."""
    names = [".notdef", *(f"u{ord(c):04X}" for c in letters)]
    pen = TTGlyphPen(None)
    for turn, corner in enumerate([(0, 0), (0, 700), (900, 700), (900, 0)]):
        (pen.lineTo if turn else pen.moveTo)(corner)
    pen.closePath()
    square = pen.glyph()
    made = FontBuilder(1000, isTTF=True)
    made.setupGlyphOrder(names)
    made.setupCharacterMap({ord(c): f"u{ord(c):04X}" for c in letters})
    made.setupGlyf(dict.fromkeys(names, square))
    made.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": family, "styleName": "Regular", "psName": family.replace(" ", "")})
    made.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    made.setupPost()
    made.save(path)
    return str(path)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with matplotlib's own fonts; call it to install others: {family: letters}."""
    manager = font_manager.fontManager
    own = [entry for entry in manager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(manager, "ttflist", own)
    there: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_a, **_k: list(there))

    def forget() -> None:
        fonts._letters_of.cache_clear()
        fonts.installed.cache_clear()
        manager._findfont_cached.cache_clear()

    def install(**families: str) -> None:
        for family, letters in families.items():
            name = family.replace("_", " ")
            there.append(_font(tmp_path / f"{family}.ttf", name, letters))
        forget()

    forget()
    yield install
    forget()


def _figure(*words: str) -> Figure:
    pen = Pen(600.0, 30.0 * len(words) + 20.0)
    for place, text in enumerate(words):
        pen.text(14.0, 20.0 + 30.0 * place, text, 12.0, bold=bool(place % 2))
    return pen.figure


def _ink(png: bytes) -> int:
    return sum(Image.open(io.BytesIO(png)).convert("L").histogram()[:128])


def _size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


def _texts(svg: bytes) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))


def test_an_installed_font_draws_what_the_own_one_lacks(machine):
    machine(Noto_Sans_CJK_SC=CHINESE + KOREAN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = picture_bytes(_figure(CHINESE, f"CD4 {KOREAN}"), "png")
    picture = Image.open(io.BytesIO(drawn))
    assert picture.info.get("Description", "") == ""
    assert picture.size[1] == pytest.approx(80 * 0.18 / 25.4 * 300, abs=2)  # no line of a note below
    square = (0.9 * 12 * 0.18 / 25.4 * 300) * (0.7 * 12 * 0.18 / 25.4 * 300)  # pixels that a letter covers
    assert _ink(drawn) > 0.8 * 4 * square


def test_letters_of_the_own_font_are_drawn_with_it_whatever_is_installed(machine):
    words = ("CD4+ T", "α → − é Ж")
    before = {kind: picture_bytes(_figure(*words), kind) for kind in ("png", "svg", "pdf")}
    machine(Noto_Sans_CJK_SC=CHINESE + "CD4α→", Symbola=EMOJI + "é")
    assert {kind: picture_bytes(_figure(*words), kind) for kind in before} == before
    assert fonts.families_for("CD4α") == [fonts.OWN]


def test_the_order_of_the_families_decides_and_not_that_of_the_machine(machine):
    machine(WenQuanYi_Zen_Hei=CHINESE + KOREAN, Noto_Sans_CJK_JP=CHINESE, Symbola=EMOJI)
    assert fonts.families_for(CHINESE) == [fonts.OWN, "Noto Sans CJK JP"]
    assert fonts.families_for(CHINESE + EMOJI + KOREAN) == [
        fonts.OWN, "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Symbola",
    ]  # fmt: skip
    pictures = [picture_bytes(_figure(CHINESE, EMOJI), "pdf") for _ in range(2)]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_what_no_font_has_is_said_once_below_and_matplotlib_is_silent(machine, kind):
    figure = _figure(f"CD4 {CHINESE}", CHINESE, EMOJI)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = picture_bytes(figure, kind, description="Made by scX.")
        again = picture_bytes(figure, kind, description="Made by scX.")
    assert drawn == again, "the note is drawn once, however often the figure is saved"
    if kind == "png":
        picture = Image.open(io.BytesIO(drawn))
        said = picture.info["Description"]
        whole = picture.convert("L")
        below = whole.crop((0, int(110 * 0.18 / 25.4 * 300) + 2, whole.width, whole.height))
        assert below.height > 20 and min(below.getdata()) < 150, "words are drawn below the figure"
        assert whole.getpixel((whole.width - 1, whole.height - 1)) == 255  # on the same paper
        assert said.startswith("Made by scX. 3 characters have no font on this computer")
        for word in ("U+7EC6", "U+80DE", "U+1F9EC", "fonts-noto-cjk", "fonts-symbola"):
            assert word in said
        assert said.count("U+7EC6") == 1


def test_an_svg_holds_the_text_and_no_word_of_fonts(machine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bare = picture_bytes(_figure(CHINESE), "svg")
    assert ["".join(text.itertext()) for text in _texts(bare)] == [CHINESE]
    machine(Noto_Sans_CJK_SC=CHINESE)
    (text,) = _texts(picture_bytes(_figure(CHINESE), "svg"))
    assert "".join(text.itertext()) == CHINESE
    assert "'Noto Sans CJK SC'" in text.get("style", "")


def test_axes_of_others_and_their_tick_labels_are_drawn_and_named_too(machine):
    figure = Figure(figsize=(4, 2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks([0, 1], [CHINESE, "CD4"])
    axes.set_title(KOREAN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lacking = picture_bytes(figure, "png")
        assert fonts.missing_letters(figure) == set(CHINESE + KOREAN)
        machine(Noto_Sans_CJK_SC=CHINESE + KOREAN)
        drawn = picture_bytes(figure, "png")
    assert _size(lacking)[1] > _size(drawn)[1] == 600
    assert not fonts.missing_letters(figure)


def test_a_font_that_has_not_the_letters_is_passed_over(machine):
    machine(Noto_Sans_CJK_SC="x", Noto_Sans_CJK_JP=CHINESE)
    assert fonts.families_for(CHINESE) == [fonts.OWN, "Noto Sans CJK JP"]


def test_a_font_of_pictures_draws_nothing_here(machine, monkeypatch):
    """Colour emoji are bitmaps; matplotlib raises an error when it is asked to set their size."""
    machine(Noto_Emoji=EMOJI)
    assert fonts.families_for(EMOJI) == [fonts.OWN, "Noto Emoji"]
    bitmap = SimpleNamespace(scalable=False, get_charmap=lambda: {ord(EMOJI): 1})
    real = font_manager.get_font
    monkeypatch.setattr(font_manager, "get_font", lambda path: bitmap if "Noto_Emoji" in path else real(path))
    fonts._letters_of.cache_clear()
    assert fonts.families_for(EMOJI) == [fonts.OWN]


def test_a_system_font_that_cannot_be_read_stops_nothing(machine, tmp_path, monkeypatch):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"\x00\x01\x00\x00 no font")
    good = _font(tmp_path / "good.ttf", "Noto Sans CJK SC", CHINESE)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda *_a, **_k: [str(broken), good])
    fonts.installed.cache_clear()
    assert fonts.families_for(CHINESE) == [fonts.OWN, "Noto Sans CJK SC"]


def test_characters_without_a_sign_of_their_own_are_not_missed(machine):
    assert fonts.missing_letters(_figure("a\u200bb\u200d c\ufe0f\u00a0d")) == set()


def test_the_note_names_few_characters_and_counts_the_others():
    assert fonts.missing_note(set()) == ""
    note = fonts.missing_note({chr(0x4E00 + n) for n in range(40)})
    assert note.startswith("40 characters have no font") and "and 34 more" in note and len(note) < 400
    assert note.isascii(), "it is drawn with the same fonts"
    assert fonts.missing_note({"म"}).startswith(
        "1 character has no font on this computer and is drawn as a box"
    )
    assert "Noto Sans Devanagari" in fonts.missing_note({"म"})


def test_a_circuit_and_a_report_of_hostile_names_are_drawn_without_a_warning(machine, monkeypatch):
    section = Section(CHINESE, 1, (f"{CHINESE} {EMOJI}", Picture("p", CHINESE, lambda: _figure(KOREAN))))
    words, text = [], Pen.text
    monkeypatch.setattr(Pen, "text", lambda pen, *at, **how: (words.append(at[2]), text(pen, *at, **how))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("png", "svg", "pdf"):
            assert circuit_picture(simplify(hostile_circuit(), View()), kind)
        document = Document(CHINESE, "below", (section,), (), "made by")
        words.clear()
        pages = report_pdf(document)
    said = " ".join(words)
    assert said.count("have no font on this computer") == 1, "once for all its pages and pictures"
    assert said.count("U+7EC6") == said.count("U+C138") == said.count("U+1F9EC") == 1
    assert pages == report_pdf(document)
    assert re.search(rb"LastResort", pages), "boxes are drawn"
    assert "no font" not in circuit_picture(simplify(cell_circuit(), View()), "svg").decode()


def test_a_real_font_of_this_machine_if_it_has_one():
    if fonts.families_for(CHINESE) == [fonts.OWN]:
        pytest.skip("this machine has no Chinese font")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in ("png", "svg", "pdf"):
            assert picture_bytes(_figure(CHINESE, f"CD4 {CHINESE}"), kind)
    assert not fonts.missing_letters(_figure(CHINESE))

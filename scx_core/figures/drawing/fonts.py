"""Letters that matplotlib's own font lacks: which installed font draws them, and what is said of the rest.

Whatever DejaVu Sans has is drawn with it, so such a figure looks the same on every machine. For Chinese,
Japanese, Korean, emoji and other scripts it asks the fonts of `FAMILIES` and Noto's font of the script, in
this order, among those that this machine has. No font comes with scX.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

OWN = "DejaVu Sans"  # comes with matplotlib
FAMILIES = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC", "Noto Sans CJK HK",
    "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Noto Sans TC", "Noto Sans HK",
    "Source Han Sans SC", "Source Han Sans CN", "Source Han Sans", "Source Han Sans JP", "Source Han Sans K",
    "Source Han Sans KR", "Source Han Sans TC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "Microsoft YaHei", "Microsoft JhengHei", "Yu Gothic", "Meiryo", "MS Gothic", "Malgun Gothic", "SimHei",
    "SimSun", "PingFang SC", "Hiragino Sans GB", "Hiragino Sans", "Apple SD Gothic Neo", "Heiti SC",
    "STHeiti", "AppleGothic", "Arial Unicode MS", "Droid Sans Fallback", "Noto Emoji", "Symbola",
    "Segoe UI Emoji", "Segoe UI Symbol", "Apple Symbols", "Noto Sans Symbols", "Noto Sans Symbols 2",
    "Noto Sans Symbols2", "Nirmala UI", "Leelawadee UI", "Segoe UI Historic", "Ebrima", "Gadugi",
    "FreeSans", "FreeSerif",
)  # fmt: skip
_KINDS = {  # by the first word of a character's name in Unicode
    "CJK": "Chinese", "IDEOGRAPHIC": "Chinese", "BOPOMOFO": "Chinese", "FULLWIDTH": "Chinese",
    "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HALFWIDTH": "Japanese",
    "KATAKANA-HIRAGANA": "Japanese", "HANGUL": "Korean",
}  # fmt: skip
_ASIAN, _EMOJI = {"Chinese", "Japanese", "Korean"}, "emoji and symbols"
_TOLD = 6  # characters that are named of each kind
# Joiners, variation selectors, controls and spaces have no sign of their own.
_SIGNLESS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"}


def families_for(words: str, wanted: Sequence[str] = (OWN,), bold: bool = False) -> list[str]:
    """The families to draw `words` with: `wanted`, then each that adds a letter which all before it lack."""
    weight = "bold" if bold else "normal"
    return _shared_out(words, FontProperties(family=list(wanted), weight=weight))[0]


def missing_note(characters: Collection[str]) -> str:
    """What is said below a figure of the characters that no font of this machine has; "" where none is.

    They are named by code point, as the note itself is drawn with the same fonts.
    """
    if not characters:
        return ""
    kinds: dict[str, list[str]] = {}
    for character in sorted(characters):
        kinds.setdefault(_kind(character), []).append(f"U+{ord(character):04X}")
    parts = []
    for kind, codes in sorted(kinds.items()):
        more = f" and {len(codes) - _TOLD:,} more" if len(codes) > _TOLD else ""
        parts.append(f"{kind} {', '.join(codes[:_TOLD])}{more}")
    count = len(characters)
    return (
        f"{count:,} {'character has' if count == 1 else 'characters have'} no font on this computer and "
        f"{'is' if count == 1 else 'are'} drawn as {'a box' if count == 1 else 'boxes'}: {'; '.join(parts)}. "
        f"Install {_packages(kinds)}, start scX again, and draw the figure anew; SVG holds them as text."
    )


def missing_letters(figure: Figure) -> set[str]:
    """Give each text of a figure the families that have its letters; returns the letters that none has."""
    missing: set[str] = set()
    for text in figure.findobj(Text):
        families, left = _shared_out(text.get_text(), text.get_fontproperties())  # type: ignore[attr-defined]
        if families != text.get_fontfamily():  # type: ignore[attr-defined]
            text.set_fontfamily(families)  # type: ignore[attr-defined]
        missing |= left
    return missing


@contextmanager
def all_letters(*figures: Figure) -> Iterator[set[str]]:
    """While it lasts the figures are drawn with the fonts that have their letters; gives the characters that
    none has, of which matplotlib does not warn then, as the caller says it in words.

    Texts whose own font has every letter are left as they are. Not for two threads at once (`pen.LOCK`).
    """
    missing = set().union(*map(missing_letters, figures))
    if not missing:
        yield missing
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        yield missing


def _shared_out(words: str, properties: FontProperties) -> tuple[list[str], set[str]]:
    """The families in the order in which they are asked, and the letters that none of them has."""
    families = list(properties.get_family())
    if words.isascii():
        return families, set()
    left = {c for c in words if not _signless(c)}
    for family in families:
        left -= _letters(family, properties, own=True)
    for family in _candidates(left):
        if not left:
            break
        more = left & _letters(family, properties)
        if more and family not in families:
            families.append(family)
        left -= more
    return families, left


def _signless(character: str) -> bool:
    return unicodedata.category(character) in _SIGNLESS or 0xFE00 <= ord(character) <= 0xFE0F


def _candidates(characters: Iterable[str]) -> list[str]:
    """`FAMILIES` that are installed, then Noto's font of each script, by name."""
    scripts = sorted({f"Noto Sans {_kind(c)}" for c in characters} - {f"Noto Sans {_EMOJI}"})
    there = installed() if scripts or characters else frozenset()
    return [family for family in (*FAMILIES, *scripts) if family in there]


def _letters(family: str, properties: FontProperties, own: bool = False) -> frozenset[str]:
    """The letters of the font that matplotlib takes for a family. `own`: a family that the text asks for,
    of which matplotlib has a substitute where it is not installed."""
    asked = properties.copy()
    asked.set_family([family])
    try:
        return _letters_of(font_manager.findfont(asked, fallback_to_default=own, rebuild_if_missing=False))
    except (ValueError, OSError, RuntimeError):  # not there, or a file that FreeType does not read
        return frozenset()


@lru_cache(maxsize=64)
def _letters_of(path: str) -> frozenset[str]:
    """The letters of a font file; none of a bitmap font (colour emoji), which matplotlib cannot draw."""
    font = font_manager.get_font(path)
    if not font.scalable:  # type: ignore[attr-defined]
        return frozenset()
    return frozenset(map(chr, font.get_charmap()))


@lru_cache(maxsize=1)
def installed() -> frozenset[str]:
    """The names of the families of this machine, without Last Resort, whose signs are boxes.

    matplotlib keeps a list of fonts from its first start on; what was installed since is added to it here.
    """
    manager = font_manager.fontManager
    known = {Path(entry.fname) for entry in manager.ttflist}
    for found in sorted(font_manager.findSystemFonts()):
        if Path(found) not in known:
            try:
                manager.addfont(found)
            except (OSError, RuntimeError, ValueError, KeyError):  # no font that can be read
                continue
    return frozenset(entry.name for entry in manager.ttflist if not entry.name.startswith("Last Resort"))


def _kind(character: str) -> str:
    """The script of a character in a word that people use."""
    name = unicodedata.name(character, "")
    first = name.split(" ")[0]
    if first in _KINDS:
        return _KINDS[first]
    if unicodedata.category(character)[0] not in "LMN":
        return _EMOJI
    return first.capitalize() or _EMOJI


def _packages(kinds: Iterable[str]) -> str:
    """Where the letters of these kinds are had: the font's name, and its package in Debian and Ubuntu."""
    wanted = set(kinds)
    parts = []
    if wanted & _ASIAN:
        parts.append("Noto Sans CJK (Debian, Ubuntu: fonts-noto-cjk)")
    if others := sorted(wanted - _ASIAN - {_EMOJI}):
        names = ", ".join(f"Noto Sans {kind}" for kind in others)
        parts.append(f"{names} (Debian, Ubuntu: fonts-noto-core)")
    if _EMOJI in wanted:  # matplotlib draws no font of pictures, such as Noto Color Emoji
        parts.append("Noto Emoji (Debian, Ubuntu: fonts-symbola, without emoji since 2017)")
    return f"the {'font' if len(parts) == 1 else 'fonts'} {' and '.join(parts)}"

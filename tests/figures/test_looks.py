"""Colours on a light and on a dark page."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from scx_core.figures.drawing import colours

ROOT = Path(__file__).resolve().parents[2]
THEME = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["theme"]


def test_the_app_follows_the_system() -> None:
    """Streamlit does so when both are given and no base is forced."""
    assert {"light", "dark"} <= set(THEME) and "base" not in THEME


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_arrows_are_seen_on_the_page(scheme: str) -> None:
    ground = THEME[scheme]["backgroundColor"]
    tone = colours.ON_DARK if scheme == "dark" else {}
    for colour, least in ((colours.INK, 7), (colours.MUTED, 4.5), (colours.WARM, 4.5), (colours.COOL, 4.5)):
        assert colours.contrast(tone.get(colour, colour).upper(), ground) >= least, colour
    assert colours.contrast(THEME[scheme]["textColor"], ground) >= 7
    assert colours.contrast(THEME[scheme]["linkColor"], ground) >= 4.5
    assert colours.contrast("#FFFFFF", THEME[scheme]["primaryColor"]) >= 3.9, "words on buttons"

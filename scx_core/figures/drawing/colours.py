"""Colours that all renderers share: warm raises the score, cool lowers it, safe for colour-blind readers.

Orange and blue differ in hue for every common colour vision deficiency; grey is kept for what is not a
gene's doing (prompt, errors, biases).
"""

from __future__ import annotations

WARM, COOL = "#C2500A", "#2166AC"
INK, MUTED, FAINT, PAPER = "#1B1F24", "#5F6872", "#D5DAE0", "#FFFFFF"
ERROR_GREY, BIAS_GREY, PROMPT_FILL = "#B9C0C8", "#8D96A0", "#F1F3F5"
UNTOLD = "#E2E6EA"  # fill of a gene or feature whose effect is not told from 0
# On a dark page: what is drawn on the paper itself. Boxes keep their light fills and dark words.
ON_DARK = {
    WARM: "#EC8A45", COOL: "#6FB2E6", INK: "#E4E8EA", MUTED: "#A9B2BC", FAINT: "#4A545E",
    BIAS_GREY: "#8D96A0", ERROR_GREY: "#8D96A0",
}  # fmt: skip
LINES = {"warm": WARM, "cool": COOL, "grey": BIAS_GREY}
MARKER_FILL, MARKER_LINE = "#F2B705", "#7A5C00"

# The fullest fills stay light enough for dark text (WCAG contrast of 4.5 and more).
_WARM_STOPS = ("#FCF9F5", "#FBD9B5", "#F4AE6C", "#E88231")
_COOL_STOPS = ("#F5F8FB", "#C9E0F3", "#96C3E8", "#63A1D9")
_SHARE_STOPS = ("#F6F7F4", "#D3E6D9", "#9DCBB0", "#62AD87")


def effect_colour(effect: float, limit: float) -> str:
    """Hex colour of an effect in logits: white at 0, full warm at +`limit`, full cool at −`limit`.

    The scale is a square root, so that the many small effects next to one large one stay visible.
    """
    strength = min(1.0, abs(effect) / limit) ** 0.5 if limit > 0 else 0.0
    return _along(_WARM_STOPS if effect >= 0 else _COOL_STOPS, strength)


def shown_colour(effect: float, limit: float) -> str:
    """Hex colour of what may be said of an effect (captions.called): grey where that is nothing."""
    return effect_colour(effect, limit) if effect else UNTOLD


def share_colour(share: float) -> str:
    """Hex colour of a share of cells between 0 and 1 (green, linear)."""
    return _along(_SHARE_STOPS, min(1.0, max(0.0, share)))


def sign_colour(weight: float) -> str:
    """Warm for positive, cool for negative, grey for what is nothing."""
    return WARM if weight > 0 else COOL if weight < 0 else BIAS_GREY


def ink_on(fill: str) -> str:
    """The text colour, dark or white, with the higher contrast on `fill`."""
    return max((INK, PAPER), key=lambda ink: contrast(ink, fill))


def contrast(first: str, second: str) -> float:
    """WCAG 2 contrast ratio of two hex colours, 1 to 21; body text needs 4.5."""
    bright, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _along(stops: tuple[str, ...], position: float) -> str:
    scaled = position * (len(stops) - 1)
    index = min(int(scaled), len(stops) - 2)
    part = scaled - index
    pairs = zip(_channels(stops[index]), _channels(stops[index + 1]), strict=True)
    return "#" + "".join(f"{round(low + (high - low) * part):02X}" for low, high in pairs)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in _channels(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

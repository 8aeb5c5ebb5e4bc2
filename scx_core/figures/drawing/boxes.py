"""The box of each gene, feature, prompt, error, bias and answer: words, size and colours, no place yet."""

from __future__ import annotations

from collections.abc import Mapping

from scx_core.circuits.circuit import Circuit, GeneEffect
from scx_core.figures import captions

from . import colours
from .drawing import Placed, PlacedKind, View
from .select import Group, Selection
from .text import plain, text_width

TARGET_HEIGHT = 36.0
FONTS = {"feature": 10.5, "gene": 13.0, "prompt": 11.5, "target": 17.0, "against": 12.0, "other": 13.0}
ON_SCREEN = FONTS | {"feature": 16.7, "gene": 15.0, "prompt": 13.4, "target": 18.0, "against": 13.5}
LEAST_BELOW = 9.8  # units: 5 points in print
_TAKEN_OFF = ("the competitors' mean score is taken off", "the log-odds against their joint probability")
_PADDING = {"gene": 8.0, "feature": 8.0, "target": 18.0, "against": 12.0}


class Boxes:
    """Makes the unplaced box (x = y = 0) of each group; holds what all of them need."""

    def __init__(
        self,
        circuit: Circuit,
        selection: Selection,
        view: View,
        markers: frozenset[str],
        labels: Mapping[str, str],
    ) -> None:
        self.circuit, self.selection, self.view = circuit, selection, view
        self.markers, self.labels = markers, labels
        self.fonts = ON_SCREEN if view.size == "screen" else FONTS
        self.effects: dict[str, GeneEffect] = {row.gene: row for row in circuit.genes}
        shown = [self.gene_effect(g) for g in selection.groups.values() if g.kind == "gene"]
        self.limit = max((abs(effect) for effect in shown), default=0.0) or 1.0
        influences = [g.influence for g in selection.groups.values() if g.kind == "feature"]
        self.most_influence = max(influences, default=0.0) or 1.0

    def gene_effect(self, group: Group) -> float:
        """The total effect of the gene in logits."""
        known = self.effects.get(group.gene or "")
        return known.effect if known else group.effect

    def of(self, group: Group) -> Placed:
        """The box of a gene, feature, prompt, error or bias group."""
        return self._of(group)._replace(layer=group.layer if group.kind in ("feature", "error") else None)

    def _of(self, group: Group) -> Placed:
        if group.kind == "gene":
            return self._gene(group)
        if group.kind == "feature":
            return self._feature(group)
        hover = captions.other_hover(group, self.circuit)
        if group.kind in ("prompt", "bos"):
            return _box(
                group.id,
                "bos" if group.kind == "bos" else "prompt",
                "start of text" if group.kind == "bos" else captions.prompt_box(self.circuit),
                hover,
                font=self.fonts["prompt"],
                fill=colours.PROMPT_FILL,
                line=colours.FAINT,
                ink=colours.MUTED,
            )
        error = group.kind == "error"
        box = _box(
            group.id,
            "error" if error else "bias",
            f"error of layer {group.layer}" if error else "biases",
            hover,
            fill=colours.ERROR_GREY if error else colours.BIAS_GREY,
            line=colours.PAPER,
            ink=colours.MUTED,
        )
        side = 22.0 if error else 15.0  # their shape says what they are; the label is for hover texts
        return box._replace(width=side, height=side)

    def _gene(self, group: Group) -> Placed:
        row = self.effects.get(group.gene or "")
        effect = captions.called(self.circuit, self.gene_effect(group), row.q if row else None)
        if self.view.colour_by == "share":
            fill = line = colours.share_colour(row.share if row else group.share)
        else:
            fill, line = colours.shown_colour(effect, self.limit), colours.sign_colour(effect)
        known = group.gene in self.markers
        note = f"known marker of {plain(self.circuit.target.answer, 60)}" if known else ""
        hover = captions.gene_hover(group, row, self.circuit, note)
        label = plain(group.gene or "", 16) or "(no name)"
        return _box(
            group.id, "gene", label, hover, font=self.fonts["gene"],
            fill=fill, line=line, ink=colours.ink_on(fill), marker=known,
        )  # fmt: skip

    def _feature(self, group: Group) -> Placed:
        first = captions.leading(group)
        name = captions.feature_name(first)
        given = self.labels.get(first.id) or self.labels.get(name)
        label = captions.feature_title(first, given, {"wide": 24, "screen": 20, "column": 16}[self.view.size])
        number = name if label != name and self.view.size != "screen" else ""  # on a screen it is in the card
        parts = (captions.stands_here(first), captions.driven_by(first, brief=True), number)
        below = " · ".join(part for part in parts if part)
        font = self.fonts["feature"] + 3.0 * (max(0.0, group.influence) / self.most_influence) ** 0.5
        hover = captions.feature_hover(group, given, self.circuit)
        q = first.q if len(group.members) == 1 else None
        effect = captions.called(self.circuit, group.effect, q)
        tint = colours.effect_colour(effect, 25.0 * abs(effect)) if effect else colours.PAPER
        line = colours.effect_colour(effect, 2.4 * abs(effect)) if effect else colours.FAINT
        if captions.not_told(q):
            tint, line = colours.UNTOLD, colours.BIAS_GREY
        return _box(
            group.id,
            "feature",
            label,
            hover,
            below=below,
            font=font,
            fill=tint,
            line=line,
            ink=colours.INK,
        )

    def more(self) -> Placed | None:
        """The stub for the genes that are not drawn."""
        hidden = self.selection.hidden_genes
        if not hidden:
            return None
        hover = (f"{hidden:,} more genes", "with a weaker effect, or without one in this circuit")
        return _box(
            "more",
            "more",
            f"and {hidden:,} more",
            hover,
            font=self.fonts["prompt"],
            fill=colours.PAPER,
            line=colours.PAPER,
            ink=colours.MUTED,
        )

    def top_row(self) -> list[Placed]:
        """The answer, and beside it what it stands against."""
        row = [
            _box(
                group.id,
                "target",
                plain(captions.answer(self.circuit), 20 if self.view.size == "column" else 44),
                captions.other_hover(group, self.circuit),
                font=self.fonts["target"],
                height=TARGET_HEIGHT,
                fill=colours.INK,
                line=colours.INK,
                ink=colours.PAPER,
            )
            for group in sorted(self.selection.groups.values(), key=lambda g: g.id)
            if group.kind == "target"
        ]
        rivals = captions.against(self.circuit.target, most=1 if self.view.size == "column" else 2)
        if rivals:
            names = tuple(plain(name, 60) for name in self.circuit.target.against)
            row.append(
                _box(
                    "against",
                    "against",
                    rivals,
                    (_TAKEN_OFF[self.circuit.target.kind == "answer"], *names),
                    font=self.fonts["against"],
                    height=26.0,
                    fill=colours.PAPER,
                    line=colours.COOL,
                    ink=colours.COOL,
                )
            )
        return row


def _box(
    box_id: str,
    kind: PlacedKind,
    label: str,
    hover: tuple[str, ...],
    *,
    fill: str,
    line: str,
    ink: str,
    below: str = "",
    font: float = 13.0,
    height: float = 0.0,
    marker: bool = False,
) -> Placed:
    bold = kind in ("gene", "target", "feature")
    inner = max(text_width(label, font, bold), text_width(below, max(0.78 * font, LEAST_BELOW)))
    width = inner + 2 * _PADDING.get(kind, 8.0) + (12.0 if marker else 0.0)
    height = height or (2.75 * font if below else 1.85 * font)
    return Placed(
        box_id,
        kind,
        label,
        below,
        0.0,
        0.0,
        width,
        height,
        font,
        fill,
        line,
        ink,
        marker,
        hover,
    )

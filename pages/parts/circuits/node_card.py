"""The card of a box that is chosen in the picture of a circuit.

Drawn at every click, so it is text and small bars of HTML, without charts; what takes longer waits for a
person to ask for it.
"""

from __future__ import annotations

import html
from collections.abc import Hashable, Iterable

import streamlit as st

from pages.parts.common import loaders
from pages.parts.common.messages import shown_errors
from pages.parts.common.results import Memory, progress_in
from pages.parts.common.session import Context
from pages.parts.common.words import count, percent, safe
from pages.parts.features import atlas_source
from pages.parts.features import list_view as feature_list
from scx_core.atlas import Feature
from scx_core.atlas.judge.protocol import MEANINGS, reason
from scx_core.cells import types_with
from scx_core.circuits import Circuit, origins
from scx_core.circuits.circuit import MeasuredMean, Node
from scx_core.errors import ScxError
from scx_core.evidence.knockouts.switch_off import SwitchedOff, switch_off
from scx_core.figures import captions
from scx_core.figures.coloured_text import Shown, examples_html
from scx_core.figures.drawing.select import Flow, Group, merge_edges, merge_nodes
from scx_core.figures.drawing.text import number, plain, signed

ROWS, EXAMPLES = 5, 3
_OFF: Memory[SwitchedOff] = Memory(64)


def card(ctx: Context, circuit: Circuit, shown: Circuit, chosen: tuple[str, ...]) -> None:
    """The card of the first chosen box. `shown` is the circuit with its steps joined, as it is drawn."""
    groups, owner = merge_nodes(shown.nodes)
    group = groups.get(chosen[0])
    with st.container(border=True, key="card", height=CARD_HEIGHT):
        if group is None:
            st.caption("This box stands for what is not drawn, or for the answer's competitors.")
            return
        flows = merge_edges(shown, groups, owner)
        if group.kind == "feature":
            _feature(ctx, circuit, group)
        elif group.kind == "gene":
            _gene(ctx, circuit, group)
        else:
            lines = captions.other_hover(group, shown)
            st.markdown(f"#### {safe(lines[0])}")
            st.caption("  \n".join(safe(line) for line in lines[1:]))
        _connections(shown, groups, flows, group)
        if group.kind == "feature":
            whole_card(ctx, circuit, captions.leading(group))


CARD_HEIGHT = 560


def _feature(ctx: Context, circuit: Circuit, group: Group) -> None:
    first = captions.leading(group)
    known = _in_atlas(ctx, circuit, first)
    badge = f" :gray-badge[{safe(known.row['verdict'])}]" if known is not None else ""
    st.markdown(f"#### {safe(captions.feature_title(first))}{badge}")
    lines = captions.feature_hover(group, None, circuit)[1:]
    st.caption(" · ".join(safe(line) for line in lines))
    if known is not None:
        verdict = str(known.row["verdict"])
        st.caption(f"{safe(MEANINGS[verdict])} {safe(reason(known.row, {}))}")
        _atlas_parts(known)


def whole_card(ctx: Context, circuit: Circuit, first: Node) -> None:
    """The way to everything that the atlas says of a feature."""
    if _in_atlas(ctx, circuit, first) is None or first.layer is None or first.feature is None:
        return
    if st.button("Its whole card", icon=":material/category:", key="whole card", width="stretch"):
        feature_list.open_feature(first.layer, first.feature)
        st.switch_page("pages/features.py")


def _in_atlas(ctx: Context, circuit: Circuit, node: Node) -> Feature | None:
    """The feature's row in the atlas of what is in use; None without one, and for another set's feature."""
    if node.layer is None or node.feature is None or not of_what_is_in_use(ctx, circuit):
        return None
    try:
        atlas = atlas_source.known(ctx)
        return atlas.feature(node.layer, node.feature) if atlas is not None else None
    except ScxError:
        return None


def of_what_is_in_use(ctx: Context, circuit: Circuit) -> bool:
    """Whether a circuit was made by the model and the set in use, on the cells in use."""
    try:
        now = {
            "data": loaders.cells(ctx).fingerprint,
            "model": loaders.language(ctx).fingerprint,
            "transcoders": loaders.transcoders(ctx).fingerprint,
        }
    except ScxError:
        return False
    return all(origin.same for origin in origins(circuit.provenance, now))


def _atlas_parts(found: Feature) -> None:
    parts = (
        ("Genes", found.genes, "gene", "share", "of its activation"),
        ("Cell types", found.types.sort_values("share", ascending=False), "cell_type", "share", "per token"),
        ("Gene sets", found.sets.sort_values("p"), "gene_set", "share", "of its activation"),
        ("Pushes answers", _pushed(found), "text", "weight", "weight on the output"),
    )
    for title, rows, name, value, unit in parts:
        if len(rows):
            st.markdown(f"**{title}** :gray[{unit}]")
            few = rows.head(ROWS)
            st.html(
                bars_html(zip(few[name].astype(str), few[value].astype(float), strict=True), value == "share")
            )
    rows = found.examples[found.examples["kind"] == "top"].head(EXAMPLES)
    if len(rows):
        st.markdown("**Examples** :gray[the colour is its activation]")
        st.html(examples_html(map(_example, rows.itertuples()), float(found.row["maximum"])))


def _pushed(found: Feature):
    rows = found.writes[found.writes["kind"] == "answer"]
    return rows.reindex(rows["weight"].abs().sort_values(ascending=False).index)


def _example(row: object) -> Shown:
    gene = row.gene if isinstance(row.gene, str) and row.gene else "no gene"  # type: ignore[attr-defined]
    about = (f"{row.value:.2f}  {gene}", str(row.cell_type or "unlabelled"))  # type: ignore[attr-defined]
    return Shown(row.texts, row.values, row.position - row.start, about)  # type: ignore[attr-defined]


def _gene(ctx: Context, circuit: Circuit, group: Group) -> None:
    effects = {row.gene: row for row in circuit.genes}
    lines = captions.gene_hover(group, effects.get(group.gene or ""), circuit, "")
    st.markdown(f"#### {safe(lines[0])}")
    known = types_with(group.gene or "")
    marks = (
        f"Known marker of {', '.join(known)}."
        if known
        else "On no list of known markers that ships with scX."
    )
    st.caption(" · ".join(safe(line) for line in (*lines[1:], marks)))
    if circuit.scope != "difference" and circuit.target.kind != "feature" and of_what_is_in_use(ctx, circuit):
        _off(ctx, circuit, group.gene or "")


def _off(ctx: Context, circuit: Circuit, gene: str) -> None:
    """A button that runs the real model without the gene, and what came of it."""
    with shown_errors():
        tracer = loaders.tracer(ctx)
        key = (*loaders.tracer_key(tracer, named=False), *of_circuit(circuit), gene)
        place = st.empty()

        def run() -> SwitchedOff:
            with tracer.lm.lock:
                return switch_off(tracer, circuit, gene, progress=progress_in(place, f"without {gene}"))

        found = _OFF.asked_for(
            key, "Switch this gene off", run, icon=":material/power_settings_new:",
            type="primary", width="stretch",
            help="The real model reads these cells again without it; the genes behind it move up.",
        )  # fmt: skip
        place.empty()
        if found is not None:
            _show_off(found)


def of_circuit(circuit: Circuit) -> tuple[Hashable, ...]:
    """Which cells a circuit was traced on, and for which target."""
    made = circuit.provenance
    cells = made.get("cells") or made.get("cell")
    return circuit.scope, circuit.target.kind, circuit.target.label, repr(cells), circuit.target.against


def _show_off(found: SwitchedOff) -> None:
    """Before and after, beside what was predicted and what another gene does."""
    st.markdown(f"##### {safe(found.words())}", help="Mean probability of whole answers, of the model's own.")
    lost, other = found.lost, found.other
    predicted = ""
    if found.predicted is not None:
        predicted = f"Predicted (frozen attribution): {signed(found.predicted)}"
    lines = [
        f"The model answers {safe(found.answer)} in {found.given_before} of {count(found.n, 'cell')} with "
        f"the gene, without it in {found.given_after}.",
        f"**Lost: {signed(lost.mean)}** {found.unit}{_interval(lost)}",
        *filter(None, [predicted]),
        *([f"Another gene of each sentence: {signed(other.mean)}{_interval(other)}"] if other else []),
    ]
    st.markdown("  \n".join(lines))


def _interval(mean: MeasuredMean) -> str:
    return "" if mean.low is None or mean.high is None else f" \\[{number(mean.low)}, {number(mean.high)}\\]"


def _connections(shown: Circuit, groups: dict[str, Group], flows: list[Flow], group: Group) -> None:
    """The strongest ways in and out, in this circuit."""
    names = {key: _called(one, shown) for key, one in groups.items()}
    for title, ends, other in (
        ("Reads, in this circuit", [f for f in flows if f.target == group.id], "source"),
        ("Feeds, in this circuit", [f for f in flows if f.source == group.id], "target"),
    ):
        strongest = sorted(ends, key=lambda flow: -flow.input_share)[:ROWS]
        if strongest:
            unit = "share of the input" if other == "source" else "share of the other's input"
            st.markdown(f"**{title}** :gray[{unit}]")
            rows = [
                (names[getattr(f, other)], f.input_share * (1 if f.weight >= 0 else -1)) for f in strongest
            ]
            st.html(bars_html(rows, share=True))


def _called(group: Group, shown: Circuit) -> str:
    if group.kind == "gene":
        return plain(group.gene or "", 24)
    if group.kind == "feature":
        first = captions.leading(group)
        title, name = captions.feature_title(first, limit=22), captions.feature_name(first)
        return title if title == name else f"{title} {name}"
    return plain(captions.other_hover(group, shown)[0], 30)


def bars_html(rows: Iterable[tuple[str, float]], share: bool) -> str:
    """Names, bars and values; positive ones warm, negative ones cool."""
    found = list(rows)
    most = max((abs(value) for _, value in found), default=0.0) or 1.0
    out = []
    for name, value in found:
        colour = "#E88231" if value >= 0 else "#63A1D9"
        words = percent(value) if share else signed(value) if value else number(value)
        out.append(
            '<div style="display:flex;align-items:center;gap:6px;font-size:14px;line-height:1.5">'
            '<span style="flex:0 0 46%;overflow:hidden;text-overflow:ellipsis;white-space:nowrap">'
            f"{html.escape(plain(name, 60))}</span>"
            f'<span style="flex:1"><i style="display:block;height:9px;border-radius:2px;background:{colour};'
            f'width:{100 * abs(value) / most:.0f}%"></i></span>'
            f'<span style="flex:0 0 auto;font-variant-numeric:tabular-nums">{html.escape(words)}</span></div>'
        )
    return "".join(out)

"""What a person does to a picture: boxes hidden, pinned, named, joined. Kept apart from the circuit, so
that it can be taken back, saved and given to every format.

Joining is of the circuit (its edges are summed, see circuits/supernodes.py); the rest is of the drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from scx_core.circuits.circuit import Circuit, Node, Supernode
from scx_core.circuits.supernodes import collapse, from_names
from scx_core.errors import ScxError

from .drawing import Drawing, Placed, View
from .layout import simplify
from .select import merge_nodes
from .text import plain, several

MOST, LONGEST = 2000, 200  # boxes of a record, characters of a name
Place = tuple[float, float]


class Edits(NamedTuple):
    """`hidden`: ids of boxes; `places` of pinned boxes, in the drawing's units; `names` by box; `steps`:
    features joined by a person."""

    hidden: tuple[str, ...] = ()
    places: tuple[tuple[str, Place], ...] = ()
    names: tuple[tuple[str, str], ...] = ()
    steps: tuple[Supernode, ...] = ()

    def hide(self, ids: Sequence[str]) -> Edits:
        """With these boxes hidden."""
        return self._replace(hidden=tuple(dict.fromkeys((*self.hidden, *ids))))

    def pin(self, places: Mapping[str, Place]) -> Edits:
        """With these boxes at these places."""
        return self._replace(places=tuple((dict(self.places) | dict(places)).items()))

    def unpin(self, ids: Sequence[str]) -> Edits:
        """With these boxes where the layout has them."""
        return self._replace(places=tuple((key, at) for key, at in self.places if key not in set(ids)))

    def rename(self, box: str, name: str) -> Edits:
        """With another name; an empty one is its own again."""
        names = dict(self.names) | {box: plain(name, 60)}
        return self._replace(names=tuple((key, text) for key, text in names.items() if text))

    def join(self, circuit: Circuit, ids: Sequence[str], name: str) -> Edits:
        """With the features of these boxes drawn as one step. Raises ScxError for features of several
        layers."""
        _, owner = merge_nodes(joined(circuit, self).nodes)
        steps = {f"s:{place}": step.members for place, step in enumerate(all_steps(circuit, self))}
        wanted = {node for node, box in owner.items() if box in set(ids)}
        members = [member for node in wanted for member in steps.get(node, (node,))]
        called = plain(name, 60) or "step"
        taken = {step.name for step in all_steps(circuit, self)}
        number = next(
            n for n in range(1, len(taken) + 2) if (called if n == 1 else f"{called} ({n})") not in taken
        )
        called = called if number == 1 else f"{called} ({number})"
        order = [node.id for node in circuit.nodes if node.id in set(members)]
        (step,) = from_names(circuit, dict.fromkeys(order, called)) or (None,)
        if step is None:
            raise ScxError("These boxes hold no features.", "Choose two or more features of one layer.")
        rest = (
            kept._replace(members=tuple(m for m in kept.members if m not in set(order)))
            for kept in self.steps
        )
        return self._replace(steps=(*(kept for kept in rest if len(kept.members) > 1), step))

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`."""
        return {
            "hidden": list(self.hidden),
            "places": {key: list(at) for key, at in self.places},
            "names": dict(self.names),
            "steps": [step._asdict() for step in self.steps],
        }

    @classmethod
    def from_json(cls, data: Any) -> Edits:
        """Rebuild from `to_json`, from whoever wrote it. Raises ScxError for anything else."""
        try:
            hidden = tuple(_text(box) for box in _some(data["hidden"]))
            places = tuple((_text(key), _place(at)) for key, at in _some(data["places"].items()))
            names = tuple((_text(key), plain(_text(name), 60)) for key, name in _some(data["names"].items()))
            steps = tuple(
                Supernode(_text(one["name"]), tuple(_text(m) for m in _some(one["members"])))
                for one in _some(data["steps"])
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ScxError("The file holds no view that can be read.", "Save the view again.") from error
        return cls(hidden, places, names, steps)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise TypeError("no short text")
    value.encode()  # half a character is a ValueError here, and no text of a file or page
    return value


def _place(at: Any) -> Place:
    x, y = at
    if any(isinstance(one, bool) or not abs(float(one)) < 1e6 for one in (x, y)):
        raise ValueError("no place")
    return float(x), float(y)


def _some(values: Any) -> list[Any]:
    found = list(values)
    if len(found) > MOST or isinstance(values, str):
        raise ValueError("too many")
    return found


def all_steps(circuit: Circuit, edits: Edits) -> tuple[Supernode, ...]:
    """The steps that the circuit carries less what a person joined otherwise, then the person's."""
    own = {member for step in edits.steps for member in step.members}
    known = {node.id for node in circuit.nodes if node.kind == "feature"}
    rest = (
        step._replace(members=tuple(m for m in step.members if m not in own)) for step in circuit.supernodes
    )
    mine = (step._replace(members=tuple(m for m in step.members if m in known)) for step in edits.steps)
    return tuple(step for step in (*rest, *mine) if len(step.members) > 1)


def joined(circuit: Circuit, edits: Edits) -> Circuit:
    """The circuit as it is drawn: each of its steps, and of the person's, as one node."""
    return collapse(circuit._replace(supernodes=all_steps(circuit, edits)))


def edited(circuit: Circuit, edits: Edits) -> Circuit:
    """The whole record with a person's names and steps. Nothing is taken out, so that its sums still
    hold; what was hidden stands in the provenance ("picture")."""
    shown = joined(circuit, edits)
    groups, _ = merge_nodes(shown.nodes)
    named = {node.id: name for box, name in edits.names if box in groups for node in groups[box].members}
    own = {node.id for node in circuit.nodes}
    steps = {node.name: named[node.id] for node in shown.nodes if node.id in named and node.id not in own}
    return circuit._replace(
        nodes=tuple(
            node._replace(name=named[node.id], name_source="label") if node.id in named else node
            for node in circuit.nodes
        ),
        supernodes=tuple(
            step._replace(name=steps.get(step.name, step.name)) for step in all_steps(circuit, edits)
        ),
        provenance=circuit.provenance | {"picture": edits.to_json()},
    )


def hidden_nodes(circuit: Circuit, edits: Edits) -> frozenset[str]:
    """Ids of the circuit's nodes whose boxes were hidden; of a step all that it joins."""
    if not edits.hidden:
        return frozenset()
    shown = joined(circuit, edits)
    groups, _ = merge_nodes(shown.nodes)
    found = {node.id for box in edits.hidden if box in groups for node in groups[box].members}
    names = {node.name for node in shown.nodes if node.id in found}
    own = {node.id for node in circuit.nodes}
    steps = [step for step in all_steps(circuit, edits) if step.name in names and found - own]
    return frozenset((found & own) | {member for step in steps for member in step.members})


def without(circuit: Circuit, nodes: frozenset[str]) -> Circuit:
    """The circuit less these nodes, their edges, and their genes' rows."""
    genes = {node.gene for node in circuit.nodes if node.id in nodes and node.kind == "gene"}
    steps = (
        step._replace(members=tuple(m for m in step.members if m not in nodes)) for step in circuit.supernodes
    )
    return circuit._replace(
        nodes=tuple(node for node in circuit.nodes if node.id not in nodes),
        edges=tuple(edge for edge in circuit.edges if not {edge.source, edge.target} & nodes),
        genes=tuple(row for row in circuit.genes if row.gene not in genes),
        supernodes=tuple(step for step in steps if len(step.members) > 1),
    )


def only(circuit: Circuit, features: Iterable[Sequence[int]]) -> Circuit:
    """The circuit with these features alone, each (layer, feature), or (layer, position, feature) of one
    cell: what a search for the smallest circuit found. All else that is no feature stays."""
    wanted = {tuple(one) for one in features}

    def stays(node: Node) -> bool:
        whole, placed = (node.layer, node.feature), (node.layer, node.position, node.feature)
        return node.kind != "feature" or whole in wanted or placed in wanted

    nodes = tuple(node for node in circuit.nodes if stays(node))
    held = {node.id for node in nodes}
    edges = tuple(edge for edge in circuit.edges if edge.source in held and edge.target in held)
    steps = (
        step._replace(members=tuple(m for m in step.members if m in held)) for step in circuit.supernodes
    )
    left = tuple(step for step in steps if len(step.members) > 1)
    return circuit._replace(nodes=nodes, edges=edges, supernodes=left)


def drawn(
    circuit: Circuit, edits: Edits, view: View | None = None, *, markers: frozenset[str] = frozenset()
) -> Drawing:
    """The drawing of the circuit as a person has made it. Pinned places outside the paper widen nothing: they
    are moved to its edge."""
    shown = joined(circuit, edits)
    groups, _ = merge_nodes(shown.nodes)
    labels = {node.id: name for box, name in edits.names if box in groups for node in groups[box].members}
    drawing = simplify(shown, view, markers=markers, labels=labels)
    hidden, places = set(edits.hidden), dict(edits.places)

    def placed(box: Placed) -> Placed:
        if box.id not in places:
            return box
        x, y = places[box.id]
        return box._replace(
            x=min(max(x, box.width / 2), drawing.width - box.width / 2),
            y=min(max(y, box.height / 2), drawing.height - box.height / 2),
        )

    nodes = tuple(placed(box) for box in drawing.nodes if box.id not in hidden)
    links = tuple(link for link in drawing.links if not {link.source, link.target} & hidden)
    gone = len(drawing.nodes) - len(nodes)
    notes = (*drawing.notes, f"{several(gone, 'box', 'boxes')} hidden by hand") if gone else drawing.notes
    return drawing._replace(nodes=nodes, links=links, notes=notes)

"""Whole answers as a tree: every token that some answer goes through is read once for all of them.

Legend: M nodes of the tree that are read (all but the ends of answers), K answers, E edges of the tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scx_core.errors import ScxError


class AnswerTree(NamedTuple):
    """Node 0 is the last token of the prompt; each other node is an answer token behind its parent.

    `token_M` (−1 at node 0), `parent_M` (itself at node 0) and `depth_M` (0 there); parents come first.
    `sees_MM[m, n]`: n is m or stands before it on the way from the root. `labels` are the K answers;
    `edge_node_E`, `edge_token_E`: at that node the answer goes on with that token; `used_KE`: 1 where an
    answer takes an edge. `place` finds a node by the tokens that lead to it.
    """

    token_M: np.ndarray
    parent_M: np.ndarray
    depth_M: np.ndarray
    sees_MM: np.ndarray
    labels: tuple[str, ...]
    edge_node_E: np.ndarray
    edge_token_E: np.ndarray
    used_KE: np.ndarray
    place: dict[tuple[int, ...], int]


def answer_tree(answers: Mapping[str, Sequence[int]], also: Iterable[Sequence[int]] = ()) -> AnswerTree:
    """The tree of these answers (token ids by label); `also` are further beginnings that must be read.

    Raises ScxError when an answer has no tokens.
    """
    empty = [label for label, ids in answers.items() if not len(ids)]
    if empty:
        raise ScxError(f"The answer {empty[0]!r} has no tokens.", "Rename it.")
    ways = {tuple(ids[:n]) for ids in answers.values() for n in range(len(ids))}
    ways |= {tuple(ids[:n]) for ids in also for n in range(len(ids) + 1)}
    nodes = sorted(ways, key=lambda way: (len(way), way))
    place = {way: m for m, way in enumerate(nodes)}
    parent_M = np.array([place[way[:-1]] if way else 0 for way in nodes])
    sees_MM = np.zeros((len(nodes), len(nodes)), dtype=bool)
    for m, parent in enumerate(parent_M):
        sees_MM[m] = sees_MM[parent]
        sees_MM[m, m] = True
    edges = sorted(
        {(place[tuple(ids[:n])], int(ids[n])) for ids in answers.values() for n in range(len(ids))}
    )
    number = {edge: e for e, edge in enumerate(edges)}
    used_KE = np.zeros((len(answers), len(edges)))
    for k, ids in enumerate(answers.values()):
        for n in range(len(ids)):
            used_KE[k, number[place[tuple(ids[:n])], int(ids[n])]] = 1.0
    node_E, token_E = np.array(edges).T
    return AnswerTree(
        np.array([way[-1] if way else -1 for way in nodes]),
        parent_M,
        np.array([len(way) for way in nodes]),
        sees_MM,
        tuple(answers),
        node_E,
        token_E,
        used_KE,
        place,
    )

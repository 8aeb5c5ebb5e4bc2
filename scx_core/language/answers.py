"""Answers: the trie of candidate labels, where a label is decided, and how likely each one is.

Cell-type names are several tokens and share prefixes, so "the logit of the cell type" is only defined at
the token where a name leaves its competitors (method §4).
Legend: B cells, K candidate labels, T positions, W tokens of the longest answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scx_core.errors import ScxError
from scx_core.language.answer_tree import AnswerTree, answer_tree, read_tree, token_scores, tree_batch
from scx_core.language.loading import Language
from scx_core.runs.micro_batch import MicroBatch
from scx_core.sentences import EncodedCell, answer_ids

NODES = 512  # tokens of all answers that stand behind a prompt at once


class Decision(NamedTuple):
    """Where a label leaves its competitors.

    `forced` are the answer tokens before that point (teacher-forced), `token` the label's own next one,
    `competing` maps each competitor's token at this point to the labels that go through it. `covered`
    are the competitors that part from the label here; the others part at another token.
    """

    forced: tuple[int, ...]
    token: int
    competing: dict[int, tuple[str, ...]]

    @property
    def covered(self) -> tuple[str, ...]:
        """Competitors that this decision is against."""
        return tuple(sorted(label for labels in self.competing.values() for label in labels))


def _shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def _others(answers: dict[str, tuple[int, ...]], label: str, against: Sequence[str] | None) -> list[str]:
    """The competitors. Raises ScxError for an unknown label or competitor, or when there is none."""
    if label not in answers:
        raise ScxError(f"The model has no answer {label!r}.", f"Candidates: {', '.join(answers)}.")
    others = [name for name in (against or answers) if name != label]
    missing = [name for name in others if name not in answers]
    if missing or not others:
        raise ScxError(
            f"{label!r} cannot be set against {', '.join(missing) or 'nothing'}.",
            f"Choose among: {', '.join(name for name in answers if name != label)}.",
        )
    return others


def decision(
    answers: dict[str, tuple[int, ...]], label: str, against: Sequence[str] | None = None
) -> Decision:
    """The decision token of `label` against the contrast set (default: all other candidates).

    Where competitors leave the label at several tokens, the one where most of them leave is taken, and
    the later one if equal. Raises ScxError when the label is unknown, has no competitor, or is spelled
    with the same tokens as one.
    """
    others = _others(answers, label, against)
    own = answers[label]
    parting: dict[int, list[str]] = {}
    for name in others:
        at = _shared_prefix(own, answers[name])
        if at >= min(len(own), len(answers[name])):
            raise ScxError(f"{label!r} and {name!r} cannot be told apart by their tokens.", "Rename one.")
        parting.setdefault(at, []).append(name)
    at = max(parting, key=lambda depth: (len(parting[depth]), depth))
    competing: dict[int, list[str]] = {}
    for name in parting[at]:
        competing.setdefault(answers[name][at], []).append(name)
    return Decision(own[:at], own[at], {token: tuple(names) for token, names in competing.items()})


class Parting(NamedTuple):
    """Where a competitor leaves an answer: after `at` shared tokens, with its own next `token`.

    `token` is None where one of the two answers ends there: nothing is decided by a token then.
    """

    name: str
    at: int
    token: int | None


def partings(
    answers: dict[str, tuple[int, ...]], label: str, against: Sequence[str] | None = None
) -> tuple[Parting, ...]:
    """Where each competitor (default: all other candidates) leaves the label, in the order of `answers`.

    Raises ScxError when the label or a competitor is unknown, there is none, or two are spelled alike.
    """
    others, own = _others(answers, label, against), answers[label]
    found = []
    for name in (name for name in answers if name in set(others)):
        rival = answers[name]
        if rival == own:
            raise ScxError(f"{label!r} and {name!r} cannot be told apart by their tokens.", "Rename one.")
        at = _shared_prefix(own, rival)
        found.append(Parting(name, at, rival[at] if at < min(len(own), len(rival)) else None))
    return tuple(found)


def answers_of(lm: Language, labels: Sequence[str], lead: str) -> dict[str, tuple[int, ...]]:
    """Token ids of every candidate answer, with the end that the checkpoint puts behind it."""
    end = lm.prompt.end
    return {label: answer_ids(lm.tokenizer, label, lead, end) for label in labels}


def score_answers(
    lm: Language, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], batch: int = 8
) -> np.ndarray:
    """Log-probability of each token of each answer after each prompt, float64 [B, K, W] (nats); 0 behind an
    answer's end.

    Every prompt is read once with the tree of all answers behind it (answer_tree.py). Many answers are cut
    into trees of about `NODES` tokens, and each of them reads the prompts anew. Fewer than `batch` are read
    together where the memory does not suffice.
    """
    out, micro = np.zeros((len(prompts), len(answers), max(map(len, answers)))), MicroBatch(units="prompts")
    for ks in _trees(answers):
        tree = answer_tree({str(k): answers[k] for k in ks})

        def attempt(part: slice, tree: AnswerTree = tree) -> tuple[slice, np.ndarray]:
            read = tree_batch(lm, prompts[part], tree)
            hidden_RMd = read_tree(lm, read)[:, -len(tree.token_M) :]
            return part, token_scores(lm, hidden_RMd, tree)

        for part, found_RKW in micro.pieces(attempt, len(prompts), batch):
            out[part, ks, : found_RKW.shape[2]] = found_RKW
    return out


def _trees(answers: Sequence[Sequence[int]]) -> list[list[int]]:
    """Which answers (numbers) go into a tree together: in their tokens' order, as they share prefixes."""
    parts: list[list[int]] = [[]]
    nodes = 0
    for k in sorted(range(len(answers)), key=lambda k: tuple(answers[k])):
        shared = _shared_prefix(answers[k], answers[parts[-1][-1]]) if parts[-1] else 0
        if parts[-1] and nodes + len(answers[k]) - shared > NODES:
            parts.append([])
            nodes = shared = 0
        parts[-1].append(k)
        nodes += len(answers[k]) - shared
    return parts


def score_labels(
    lm: Language, cells: Sequence[EncodedCell], labels: Sequence[str], lead: str, batch: int = 8
) -> np.ndarray:
    """Sequence log-probability of each whole answer for each cell, float64 [B, K] (nats)."""
    answers = list(answers_of(lm, labels, lead).values())
    return score_answers(lm, [cell.ids for cell in cells], answers, batch).sum(-1)


def predicted(scores_BK: np.ndarray, labels: Sequence[str]) -> list[str]:
    """The likeliest label of each cell."""
    return [labels[k] for k in scores_BK.argmax(1)]

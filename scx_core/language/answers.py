"""Answers: the trie of candidate labels, where a label is decided, and how likely each one is.

Cell-type names are several tokens and share prefixes, so "the logit of the cell type" is only defined at
the token where a name leaves its competitors (method §4).
Legend: B cells, K candidate labels, T positions, W tokens of the longest answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from transformers import DynamicCache

from scx_core.errors import ScxError
from scx_core.language.load import Language
from scx_core.language.taps import positions
from scx_core.sentences import EncodedCell, answer_ids, pad_left

# Upper bound on the key/value cache that is copied for the candidates of a batch.
CACHE_BYTES = 1_000_000_000


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


def _expand(cache, rows: int, times: int):
    """A copy of a key/value cache with every row repeated `times` times."""
    new = type(cache)()
    for i, layer in enumerate(cache.layers):
        new.update(
            layer.keys[:rows].repeat_interleave(times, 0), layer.values[:rows].repeat_interleave(times, 0), i
        )
    return new


@torch.no_grad()
def _score_batch(
    lm: Language, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Log-probability of every token of every answer after every prompt of one batch, [B, K, W]; 0 behind an
    answer's end. The prompt is read once."""
    padded = pad_left(prompts, lm.pad_id)
    ids_BT = torch.from_numpy(padded.ids_BT).to(lm.device)
    mask_BT = torch.from_numpy(padded.mask_BT).to(lm.device)
    out = lm.model(
        input_ids=ids_BT,
        attention_mask=mask_BT,
        position_ids=positions(mask_BT),
        # A cache that the model makes itself forgets what lies outside its sliding windows, and with it the
        # length that the masks of the candidates need.
        past_key_values=DynamicCache(),
        use_cache=True,
        logits_to_keep=1,
    )
    first_B = _log_softmax(out.logits[:, -1])
    n_cells, n_labels, width = len(prompts), len(answers), max(len(a) for a in answers)
    table_KW = torch.zeros(n_labels, width, dtype=torch.int64, device=lm.device)
    real_KW = torch.zeros_like(table_KW)
    for k, answer in enumerate(answers):
        table_KW[k, : len(answer)] = torch.tensor(answer, device=lm.device)
        real_KW[k, : len(answer)] = 1
    ids = table_KW.repeat(n_cells, 1)
    real = real_KW.repeat(n_cells, 1)
    mask = torch.cat([mask_BT.repeat_interleave(n_labels, 0), real], 1)
    later = _log_softmax(
        lm.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions(mask)[:, -width:],
            past_key_values=_expand(out.past_key_values, n_cells, n_labels),
            use_cache=True,
        ).logits
    )
    score = first_B.repeat_interleave(n_labels, 0).gather(1, ids[:, :1])
    rest = later[:, :-1].gather(2, ids[:, 1:, None])[..., 0] * real[:, 1:]
    return torch.cat([score, rest], 1).view(n_cells, n_labels, width)


def _log_softmax(logits: torch.Tensor) -> torch.Tensor:
    """In float32 at least."""
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


def score_answers(
    lm: Language, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], batch: int = 16
) -> np.ndarray:
    """Log-probability of each token of each answer after each prompt, float64 [B, K, W] (nats); 0 behind an
    answer's end.

    The prompts of a batch and then the answers are cut into parts so that the copied cache stays below
    `CACHE_BYTES`.
    """
    width = max(map(len, answers))
    out = np.zeros((len(prompts), len(answers), width))
    longest = max(map(len, prompts))
    facts = lm.facts
    a_token = 2 * facts.n_layers * facts.n_value_heads * facts.head_width * lm.unembedding.element_size()
    a_row = a_token * (longest + width)
    at_once = max(1, CACHE_BYTES // a_row)
    per_batch = max(1, min(batch, at_once // min(len(answers), at_once)))
    for start in range(0, len(prompts), per_batch):
        part = prompts[start : start + per_batch]
        for k in range(0, len(answers), at_once):
            found_BKW = _score_batch(lm, part, answers[k : k + at_once]).cpu().numpy()
            cells, labels, tokens = found_BKW.shape
            out[start : start + cells, k : k + labels, :tokens] = found_BKW
    return out


def score_labels(
    lm: Language, cells: Sequence[EncodedCell], labels: Sequence[str], lead: str, batch: int = 16
) -> np.ndarray:
    """Sequence log-probability of each whole answer for each cell, float64 [B, K] (nats)."""
    answers = list(answers_of(lm, labels, lead).values())
    return score_answers(lm, [cell.ids for cell in cells], answers, batch).sum(-1)


def predicted(scores_BK: np.ndarray, labels: Sequence[str]) -> list[str]:
    """The likeliest label of each cell."""
    return [labels[k] for k in scores_BK.argmax(1)]

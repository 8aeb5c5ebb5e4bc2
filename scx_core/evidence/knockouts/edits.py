"""Edited sentences of one cell, and how the real model reads many of them in few passes.

| way | the sentence |
|---|---|
| text | the genes are taken out of the cell's whole ranking and the cell is written anew: see below |
| gap | every gene stays where it is; the tokens of these genes become those of a neutral gene |
| end | the genes are moved behind all others of the sentence |
| front | the genes are moved to the front, in the order given (over-expression); the lowest fall out |

With `text`, what stood behind the genes moves up, and at the end come the next genes of the ranking, for
which the sentence had no room. So each gene taken out brings one in, and all single knock-outs of a cell have
in common what that one does: compare them with each other, and with `gap`, where nothing comes in.

The prompt's number of genes is what it was, even where the ranking has no next gene: it is the number that
is asked for, not one that is counted. Genes stand apart by one space as ever. A sentence that is longer than
the model's context loses its lowest genes, as the cell's own does.

The neutral gene: of the genes of the table that are spelled with as many tokens and are not in the sentence,
the one whose mean input embedding is nearest to the mean over all of them. Where no gene has so many tokens,
the tokens of two neutral genes stand one behind the other. Nothing is drawn and no answer is considered.

Reading: what an edited prompt shares with the cell's own from the start is read once and its keys and values
are cached; only the rest is read anew. Behind it stands the tree of all answers: a token of it attends to the
prompt and to the tokens before it on its own branch. Prompts are sorted by where they part from the cell's
and run in batches. Three short cuts that change no number: behind the last block only the tree's tokens are
wanted, so its queries and its MLP are theirs alone; and where blocks are parallel, MLP 0 reads embeddings
only, so it is run once for each different token of a batch.
Legend: G genes of the table, T positions of the cell's prompt, R edited prompts of a batch, P shared
positions, S columns of the rest (padded at the end), M nodes of the answer tree, Q = S + M, V vocabulary,
K answers, H heads, d width.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.language import Language, wording
from scx_core.language.answer_tree import VOCABULARY_NUMBERS, AnswerTree, answer_scores, capped, masks
from scx_core.runs.micro_batch import MicroBatch
from scx_core.sentences import EncodedCell, rank_matrix
from scx_core.sentences.encode import AS_TEXT
from scx_core.sentences.pieces import Encoder, block_encoder

WAYS = ("text", "gap", "end", "front")
_ENCODER_CELLS = 4


class Neutral(NamedTuple):
    """A gene that stands in for others, and its tokens in the middle of a sentence."""

    gene: str
    ids: tuple[int, ...]


class Sentence(NamedTuple):
    """A cell as it is: `cell` is its prompt, `ranked` the columns of the table by falling expression, further
    than the sentence goes, `names` their genes."""

    row: int
    cell: EncodedCell
    ranked: np.ndarray
    names: list[str]


class Editor:
    """Writes edited sentences of a tracer's cells; the tokens of each gene are cut once."""

    def __init__(self, tracer: Tracer, nearest: int = 0) -> None:
        """`nearest`: which of the neutral genes stands in, counted from the nearest (0)."""
        self.tracer, self.nearest = tracer, nearest
        cfg, table = tracer.lm.sentence_config, tracer.table
        self.n_genes = cfg.n_genes
        rows = np.arange(min(_ENCODER_CELLS, table.n_cells))
        self._encode: Encoder = block_encoder(
            wording(tracer.lm, table), rank_matrix(table.rows(rows), rows, cfg.n_genes, cfg.tie_seed)
        )
        self._neutral: dict[int, list[Neutral]] | None = None
        self._column = {str(name): g for g, name in enumerate(table.symbols)}

    def sentence(self, row: int, extra: int = 1) -> Sentence:
        """A cell's prompt and its ranking, `extra` genes further than the sentence."""
        table, cfg = self.tracer.table, self.tracer.lm.sentence_config
        rows = np.array([row])
        ranked = rank_matrix(table.rows(rows), rows, cfg.n_genes + extra, cfg.tie_seed)[0]
        ranked = ranked[ranked >= 0]
        names = [str(name) for name in table.symbols[ranked]]
        return Sentence(row, self.tracer.encode(rows)[0], ranked, names)

    def singles(self, sentence: Sentence, genes: Sequence[str], way: str) -> list[tuple[int, ...]]:
        """The prompt's token ids after each of these genes alone is edited."""
        return self._written(sentence, [(gene,) for gene in genes], way)

    def together(self, sentence: Sentence, genes: Sequence[str], way: str) -> tuple[int, ...]:
        """The prompt's token ids after all of these genes are edited at once.

        Those that the sentence does not hold change nothing, but for `front`, where they are put in.
        """
        return self._written(sentence, [tuple(genes)], way)[0]

    def _written(
        self, sentence: Sentence, sets: Sequence[tuple[str, ...]], way: str
    ) -> list[tuple[int, ...]]:
        if way not in WAYS:
            raise ScxError(f"There is no edit {way!r}.", f"Use one of {', '.join(WAYS)}.")
        if way == "gap":
            return [self._with_neutrals(sentence, set(genes)) for genes in sets]
        rows = [self._reranked(sentence, genes, way) for genes in sets]
        ranked_CR = np.full((len(rows), self.n_genes), -1, np.int32)
        for c, ranked in enumerate(rows):
            ranked_CR[c, : len(ranked)] = ranked
        block = self._encode(ranked_CR)
        ends = block.start.tolist()
        ids = block.ids_N.tolist()
        return [tuple(ids[a:b]) for a, b in itertools.pairwise(ends)]

    def _reranked(self, sentence: Sentence, genes: tuple[str, ...], way: str) -> np.ndarray:
        unknown = [gene for gene in genes if gene not in self._column]
        if unknown:
            raise ScxError(
                f"{self.tracer.table.name} has no gene {unknown[0][:40]!r}.",
                "Check the spelling; it is a symbol.",
            )
        moved = np.array([self._column[gene] for gene in genes], np.int32)
        if way == "front":
            rest = sentence.ranked[~np.isin(sentence.ranked, moved)]
            return np.concatenate([moved, rest])[: self.n_genes]
        if way == "end":
            held = np.array([self._column[gene] for gene in sentence.cell.genes], np.int32)
            there = np.isin(held, moved)
            return np.concatenate([held[~there], held[there]])
        left = sentence.ranked[~np.isin(sentence.ranked, moved)]
        if not len(left):
            raise ScxError("No gene would be left in the sentence.", "Take out fewer genes.")
        return left[: self.n_genes]

    def _with_neutrals(self, sentence: Sentence, genes: set[str]) -> tuple[int, ...]:
        ids = list(sentence.cell.ids)
        for span in sentence.cell.spans:
            if span.gene in genes:
                ids[span.start : span.end] = self.neutral(span.end - span.start, sentence).ids
        return tuple(ids)

    def neutral(self, n_tokens: int, sentence: Sentence) -> Neutral:
        """The neutral gene of so many tokens for a cell."""
        found = self._neutrals().get(n_tokens, [])
        held = set(sentence.cell.genes)
        free = [one for one in found if one.gene not in held]
        if free or found:
            return (free or found)[min(self.nearest, len(free or found) - 1)]
        if n_tokens < 2:
            raise ScxError("No gene of this table is one token.", "Use a knock-out by text.")
        most = max(n for n in self._neutrals() if n < n_tokens)
        first = self.neutral(most, sentence)
        second = self.neutral(n_tokens - most, sentence)
        return Neutral(f"{first.gene} {second.gene}", first.ids + second.ids)

    def _neutrals(self) -> dict[int, list[Neutral]]:
        """Genes by their number of tokens, nearest to the mean first."""
        if self._neutral is None:
            lm = self.tracer.lm
            names = sorted(self._column)
            pieces = lm.tokenizer([f" {name}" for name in names], **AS_TEXT)["input_ids"]
            weight_Vd = lm.embedding
            start = np.concatenate([[0], np.cumsum([len(ids) for ids in pieces])[:-1]])
            flat = torch.tensor([i for ids in pieces for i in ids], device=lm.device)
            with torch.no_grad():
                mean_Gd = torch.nn.functional.embedding_bag(
                    flat, weight_Vd, torch.from_numpy(start).to(lm.device), mode="mean"
                ).float()
            n_G = np.array([len(ids) for ids in pieces])
            self._neutral = {}
            for n in sorted(set(n_G.tolist())):
                at = np.flatnonzero(n_G == n)
                own_Gd = mean_Gd[torch.from_numpy(at).to(lm.device)]
                far_G = (own_Gd - own_Gd.mean(0)).norm(dim=1).cpu().numpy()
                order = at[np.argsort(far_G, kind="stable")]
                self._neutral[n] = [Neutral(names[g], tuple(pieces[g])) for g in order]
        return self._neutral


TOKENS = 8192  # of a batch
ROWS = 64
_WAY = "scx_tree"
_READ: ContextVar[tuple[int, int] | None] = ContextVar("scx_tree_read", default=None)

Take = Callable[[torch.Tensor], torch.Tensor]


class Read(NamedTuple):
    """By edited prompt: log-probability of every whole answer, float64 [R, K] (nats), and `value_R`, what
    `take` made of the logits [R, M, V], float64."""

    answers_RK: np.ndarray
    value_R: np.ndarray


def shared_length(ids: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts share from the start, their last ones left out."""
    n = min(len(ids), len(other)) - 1
    differ = np.flatnonzero(np.asarray(ids[:n]) != np.asarray(other[:n]))
    return int(differ[0]) if len(differ) else n


def read_edited(
    lm: Language,
    ids: Sequence[int],
    edited: Sequence[Sequence[int]],
    tree: AnswerTree,
    take: Take,
    tokens: int = TOKENS,
) -> Read:
    """Read the edited prompts (token ids) of a cell whose own prompt is `ids`, in the order given.

    `take` turns logits [R, M, V] at the nodes of the tree into one number a prompt.
    """
    found_RK = np.zeros((len(edited), len(tree.labels)))
    value_R = np.zeros(len(edited))
    if not len(edited):
        return Read(found_RK, value_R)
    shared_R = np.array([shared_length(ids, other) for other in edited])
    order, micro = np.argsort(shared_R, kind="stable"), MicroBatch(units="edited prompts")
    with _reads_the_tree_only(lm, len(tree.token_M)), torch.no_grad():
        kept = _beginning(lm, ids, int(shared_R.max()))
        for batch in _batches(order, shared_R, [len(other) for other in edited], len(tree.token_M), tokens):

            def attempt(some: slice, batch: list[int] = batch) -> None:
                rows = batch[some]
                logits_RMV = _logits(lm, kept, int(shared_R[rows[0]]), [edited[r] for r in rows], tree)
                for part, logits in zip(*_parts(rows, logits_RMV), strict=True):
                    found_RK[part] = answer_scores(logits, tree).cpu().numpy()
                    value_R[part] = take(logits).double().cpu().numpy()

            for _ in micro.pieces(attempt, len(batch), len(batch)):
                pass
    return Read(found_RK, value_R)


def _batches(
    order: np.ndarray, shared_R: np.ndarray, lengths: Sequence[int], n_nodes: int, tokens: int
) -> Iterator[list[int]]:
    """Prompts that are run together: those that part from the cell's prompt at about the same place."""
    batch: list[int] = []
    longest = 0
    for r in order.tolist():
        first = shared_R[batch[0]] if batch else shared_R[r]
        longest_now = max(longest, lengths[r])
        width = longest_now - first + n_nodes
        if batch and (len(batch) == ROWS or (len(batch) + 1) * width > tokens):
            yield batch
            batch, longest_now = [], lengths[r]
        batch.append(r)
        longest = longest_now
    if batch:
        yield batch


def _parts(rows: list[int], logits_RMV: torch.Tensor) -> tuple[list[list[int]], list[torch.Tensor]]:
    size = max(1, VOCABULARY_NUMBERS // logits_RMV[0].numel())
    return [rows[i : i + size] for i in range(0, len(rows), size)], list(logits_RMV.split(size))


def _beginning(lm: Language, ids: Sequence[int], length: int) -> DynamicCache:
    """Keys and values of the first `length` tokens of the cell's prompt, a batch of one."""
    cache = DynamicCache()  # one that a model makes itself forgets what lies outside its sliding windows
    if length:
        ids_1P = torch.tensor([list(ids[:length])], device=lm.device)
        token = _READ.set(None)
        try:
            lm.model.base_model(
                input_ids=ids_1P,
                position_ids=torch.arange(length, device=lm.device)[None],
                attention_mask=_causal(lm, length),
                past_key_values=cache,
                use_cache=True,
            )
        finally:
            _READ.reset(token)
    return cache


def _repeated(cache: DynamicCache, length: int, rows: int) -> DynamicCache:
    new = DynamicCache()
    layers: Sequence[Any] = cache.layers if length else ()
    for i, layer in enumerate(layers):
        keys, values = layer.keys[:, :, :length], layer.values[:, :, :length]
        new.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
    return new


def _logits(
    lm: Language, kept: DynamicCache, shared: int, prompts: Sequence[Sequence[int]], tree: AnswerTree
) -> torch.Tensor:
    """Logits at every node of the tree behind each prompt, [R, M, V], in the model's precision."""
    rest = [list(ids[shared:-1]) for ids in prompts]
    length_R = torch.tensor([len(ids) for ids in rest])
    n_rows, S, M = len(rest), int(length_R.max()), len(tree.token_M)
    ids_RQ = torch.zeros(n_rows, S + M, dtype=torch.int64)
    for r, ids in enumerate(rest):
        ids_RQ[r, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
    ids_RQ[:, S:] = torch.from_numpy(tree.token_M)
    ids_RQ[:, S] = torch.tensor([ids[-1] for ids in prompts])
    column_S = torch.arange(S)
    at_RS = shared + torch.minimum(column_S, length_R[:, None])
    at_RM = shared + length_R[:, None] + torch.from_numpy(tree.depth_M)
    at_RQ = torch.cat([at_RS, at_RM], 1)
    real_RS = column_S < length_R[:, None]
    sees_RQK = torch.zeros(n_rows, S + M, shared + S + M, dtype=torch.bool)
    sees_RQK[:, :, :shared] = True
    sees_RQK[:, :S, shared : shared + S] = torch.ones(S, S, dtype=torch.bool).tril()
    sees_RQK[:, S:, shared : shared + S] = real_RS[:, None]
    sees_RQK[:, S:, shared + S :] = torch.from_numpy(tree.sees_MM)
    at_RK = torch.cat([torch.arange(shared).expand(n_rows, -1), at_RQ], 1)
    hidden_RMd = lm.model.base_model(
        input_ids=ids_RQ.to(lm.device),
        position_ids=at_RQ.to(lm.device),
        attention_mask=masks(lm, sees_RQK, at_RQ, at_RK),
        past_key_values=_repeated(kept, shared, n_rows),
        use_cache=True,
    ).last_hidden_state[:, S:]
    return capped(lm, lm.model.get_output_embeddings()(hidden_RMd))


def _causal(lm: Language, length: int) -> Any:
    at_1T = torch.arange(length)[None]
    return masks(lm, torch.ones(1, length, length, dtype=torch.bool).tril(), at_1T, at_1T)


@contextmanager
def _reads_the_tree_only(lm: Language, n_nodes: int) -> Iterator[None]:
    """While active, the model takes the short cuts above; the MLPs are as before afterwards."""
    last = lm.facts.n_layers - 1
    mlp = lm.part(last, "mlp")
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation(_WAY)
    token = _READ.set((last, n_nodes))
    table = _mlp_of_tokens(lm) if lm.facts.residual == "parallel" and last > 0 else None
    forward = type(mlp).forward

    def for_the_tree(x_RQd: torch.Tensor) -> torch.Tensor:
        if _READ.get() is None:
            return forward(mlp, x_RQd)
        y_RMd = forward(mlp, x_RQd[:, -n_nodes:].contiguous())
        return torch.nn.functional.pad(y_RMd, (0, 0, x_RQd.shape[1] - n_nodes, 0))

    mlp.forward = for_the_tree  # type: ignore[method-assign]
    try:
        yield
    finally:
        del mlp.forward
        if table is not None:
            table()
        _READ.reset(token)
        lm.model.set_attn_implementation(before)


def _mlp_of_tokens(lm: Language) -> Callable[[], None]:
    """Let MLP 0 be run once for each different token. Gives what undoes it."""
    mlp, forward = lm.part(0, "mlp"), type(lm.part(0, "mlp")).forward
    seen: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        seen[:] = [kwargs["input_ids"] if "input_ids" in kwargs else args[0]]

    def of_tokens(x_RQd: torch.Tensor) -> torch.Tensor:
        token_U, at_N = seen[0].flatten().unique(return_inverse=True)
        x_Nd = x_RQd.reshape(-1, x_RQd.shape[-1])
        first_U = at_N.new_zeros(len(token_U)).scatter_(0, at_N, torch.arange(len(at_N), device=at_N.device))
        return forward(mlp, x_Nd[first_U])[at_N].view(x_RQd.shape)

    handle = lm.model.base_model.register_forward_pre_hook(keep, with_kwargs=True)
    mlp.forward = of_tokens  # type: ignore[method-assign]

    def undo() -> None:
        del mlp.forward
        handle.remove()

    return undo


def attention(module: torch.nn.Module, *inputs: Any, **options: Any) -> torch.Tensor:
    """Attention as the model has it (of query, key, value, mask): torch's fused kernel, or the model's own
    where it caps its scores, which torch's cannot."""
    if options.get("softcap") is not None:
        return sys.modules[type(module).__module__].eager_attention_forward(module, *inputs, **options)[0]
    return sdpa_attention_forward(module, *inputs, **options)[0]


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as the model has it; of the last layer only for the tree's tokens, 0 elsewhere."""
    read = _READ.get()
    n_queries = query.shape[2]
    if read is not None and getattr(module, "layer_idx", None) == read[0]:
        query = query[:, :, -read[1] :]
        attention_mask = None if attention_mask is None else attention_mask[:, :, -read[1] :]
    out = attention(module, query, key, value, attention_mask, **options)
    missing = n_queries - out.shape[1]
    return (torch.nn.functional.pad(out, (0, 0, 0, 0, missing, 0)) if missing else out), None


AttentionInterface.register(_WAY, _attention)

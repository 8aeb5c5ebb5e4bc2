"""Edited sentences of one cell: genes taken out, put last or first, or put in place of by a neutral gene.

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
the tokens of two neutral genes stand one behind the other. Nothing is drawn and no answer is looked at.
Legend: G genes of the table, d width.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from scx_core.circuits import Tracer
from scx_core.errors import ScxError
from scx_core.language import text_limit
from scx_core.sentences import EncodedCell, rank_matrix
from scx_core.sentences.encode import AS_TEXT
from scx_core.sentences.pieces import Encoder, Wording, block_encoder

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
        words = Wording(
            tracer.lm.tokenizer,
            tracer.lm.prompt,
            table.symbols,
            table.organism,
            cfg.n_genes,
            text_limit(tracer.lm, table),
        )
        rows = np.arange(min(_ENCODER_CELLS, table.n_cells))
        self._encode: Encoder = block_encoder(
            words, rank_matrix(table.rows(rows), rows, cfg.n_genes, cfg.tie_seed)
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
            held = sentence.ranked[: len(sentence.cell.spans)]
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

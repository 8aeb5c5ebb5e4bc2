"""Input-independent connection tables of a feature in words: features, heads, tokens, genes (method §7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from scx_core.attribution.replacement_model import check_feature
from scx_core.attribution.virtual_weights import (
    Heads,
    Top,
    feature_inputs,
    feature_outputs,
    heads_from,
    heads_into,
    token_inputs,
    token_outputs,
)
from scx_core.circuits.feature_names import NameBook, name_in, sourced
from scx_core.circuits.tracer import Tracer
from scx_core.language import Language
from scx_core.runs.options import check, option, to_dict
from scx_core.sentences.encode import AS_TEXT

NAMED_GENES = 4  # of a token that starts more of them


@dataclass(frozen=True)
class LinkConfig:
    """How long the tables are."""

    top: int = option(15, "Rows of each table, by |weight|", minimum=1)

    def __post_init__(self) -> None:
        check(self)


class Connection(NamedTuple):
    """One connection: `weight` has no unit, as every 1/σ is left out.

    Its other end is a feature (`layer`, `feature`, `name` where an atlas has one) or a token (`token`,
    `text`), which starts `n_genes` of the table's genes, the first of them named. `head_layer` and `head` are
    None for a direct one.
    """

    weight: float
    layer: int | None = None
    feature: int | None = None
    token: int | None = None
    text: str | None = None
    genes: tuple[str, ...] = ()
    n_genes: int = 0
    head_layer: int | None = None
    head: int | None = None
    name: str | None = None


class FeatureLinks(NamedTuple):
    """The largest connections of one feature, each table by falling |weight|.

    `features`, `tokens`, `genes`: what it reads directly; `…_by_head`: through one head. `genes` are the
    tokens that start a gene. `feeds`: the features of later layers that it writes to. `writes`: the output
    tokens that it moves.
    """

    layer: int
    feature: int
    features: tuple[Connection, ...]
    features_by_head: tuple[Connection, ...]
    tokens: tuple[Connection, ...]
    tokens_by_head: tuple[Connection, ...]
    genes: tuple[Connection, ...]
    genes_by_head: tuple[Connection, ...]
    feeds: tuple[Connection, ...]
    feeds_by_head: tuple[Connection, ...]
    writes: tuple[Connection, ...]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """A plain dict for `json.dump`."""
        return self._asdict() | {name: [link._asdict() for link in getattr(self, name)] for name in TABLES}

    def frame(self) -> pd.DataFrame:
        """All tables as one, with the name of the table in the column `table`."""
        rows = [{"table": name} | link._asdict() for name in TABLES for link in getattr(self, name)]
        return pd.DataFrame(rows, columns=["table", *Connection._fields])


TABLES = (
    *("features", "features_by_head", "tokens", "tokens_by_head", "genes", "genes_by_head"),
    *("feeds", "feeds_by_head", "writes"),
)
LINKS = LinkConfig()


def feature_links(tracer: Tracer, layer: int, feature: int, cfg: LinkConfig = LINKS) -> FeatureLinks:
    """The connection tables of a feature. Raises ScxError when the set has no such feature."""
    rep, n, book = tracer.rep, cfg.top, tracer.names
    check_feature(rep, layer, feature)
    heads, width = heads_into(rep, layer, feature), rep.transcoders.n_features
    names = _TokenNames(tracer.lm, gene_starts(tracer.lm, tracer.table.symbols.tolist()))
    vocabulary, starts = range(len(tracer.lm.tokenizer)), sorted(names.starts)
    earlier = feature_inputs(rep, layer, feature, n)
    tokens = token_inputs(rep, layer, feature, vocabulary, n)
    genes = token_inputs(rep, layer, feature, starts, n)
    later = feature_outputs(rep, layer, feature, n)
    return FeatureLinks(
        layer,
        feature,
        _features(earlier.direct, width, book),
        _features(earlier.by_head, width, book, heads),
        names.links(tokens.direct, vocabulary),
        names.links(tokens.by_head, vocabulary, heads),
        names.links(genes.direct, starts),
        names.links(genes.by_head, starts, heads),
        _features(later.direct, width, book),
        _features(later.by_head, width, book, heads_from(rep, layer, feature)),
        names.links(token_outputs(rep, layer, feature, n), range(len(tracer.lm.unembedding))),
        sourced(tracer.about({"links": to_dict(cfg)}), book),
    )


def gene_starts(lm: Language, symbols: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """Tokens that start a gene inside a cell sentence, with the genes that each of them starts, in order."""
    starts: dict[int, list[str]] = {}
    spelled = lm.tokenizer([f" {symbol}" for symbol in symbols], **AS_TEXT)["input_ids"]
    for symbol, ids in zip(symbols, spelled, strict=True):
        first = next((token for token in ids if lm.text(token).strip()), None)
        if first is not None:
            starts.setdefault(first, []).append(symbol)
    return {token: tuple(genes) for token, genes in starts.items()}


def _features(
    top: Top, width: int, book: NameBook | None, heads: Heads | None = None
) -> tuple[Connection, ...]:
    out = []
    for weight, row, column in zip(*(part.tolist() for part in top), strict=True):
        layer, feature = divmod(row, width)
        link = Connection(weight, layer=layer, feature=feature, name=name_in(book, layer, feature))
        out.append(_through(link, heads, column))
    return tuple(out)


def _through(link: Connection, heads: Heads | None, column: int) -> Connection:
    if heads is None:
        return link
    return link._replace(head_layer=int(heads.layer_J[column]), head=int(heads.head_J[column]))


class _TokenNames(NamedTuple):
    """What tokens are called."""

    lm: Language
    starts: dict[int, tuple[str, ...]]

    def links(self, top: Top, tokens: Sequence[int], heads: Heads | None = None) -> tuple[Connection, ...]:
        """Rows that index `tokens`, named."""
        out = []
        for weight, row, column in zip(*(part.tolist() for part in top), strict=True):
            token = tokens[row]
            genes = self.starts.get(token, ())
            named = (self.lm.text(token), genes[:NAMED_GENES], len(genes))
            out.append(_through(Connection(weight, None, None, token, *named), heads, column))
        return tuple(out)

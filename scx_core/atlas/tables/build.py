"""The tables of an atlas from what the pass left behind (columns: see the room's opening words).

Legend: F units, S slots, K bins, W tokens of context.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from scx_core.atlas.collect.one_pass import PassSums
from scx_core.atlas.collect.sums import N_HISTOGRAM, histogram_edge
from scx_core.atlas.collect.tally import LayerTally
from scx_core.atlas.collect.token_slots import DATA, REAL, BinLayout, bin_ends
from scx_core.atlas.collect.units import UnitSource, pushed
from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.judge.figures_of_units import Lexicon, evidence, half_of, lexicon
from scx_core.atlas.judge.protocol import (
    PROMPT,
    Thresholds,
    automatic_label,
    choose_thresholds,
    verdict_shares,
    verdicts,
)
from scx_core.language import Language

CHOOSING, REPORTING = 0, 1  # the halves
BLOCK = 1024  # units whose slots are dense at a time
FEW = 10  # families and pieces kept of a feature
NAMED_GENES = 5
TESTED_GENES = 10  # of a baseline's unit: gene sets are tested on so many
QUANTILES = {"q50": 0.5, "q90": 0.9, "q99": 0.99}


class Judged(NamedTuple):
    """Figures of all layers with verdicts, by data (`places.DATA`) of the reporting half; the verdicts of
    the choosing half on the real data; the thresholds."""

    reported: dict[str, pd.DataFrame]
    other_half: pd.DataFrame
    limits: Thresholds


def judge(
    passed: PassSums,
    name: str,
    words: Lexicon,
    limits: Thresholds | None = None,
    context: pd.DataFrame | None = None,
) -> Judged:
    """Apply the protocol to one source. Without `limits` they are chosen on this source's nulls. `context`
    has what was found by exchanging genes (`context.py`), a row a unit."""

    def figures(half: int, data: int) -> pd.DataFrame:
        return figures_of(passed, name, words, half, data)

    chosen = limits or choose_thresholds({data: figures(CHOOSING, data) for data in (1, 2)})
    reported = {}
    for number, data in enumerate(DATA):
        table = figures(REPORTING, number)
        if number == REAL:
            table = with_context(table, context)
        reported[data] = table.join(verdicts(table, chosen))
    other = with_context(figures(CHOOSING, REAL), context)
    return Judged(reported, other.join(verdicts(other, chosen)), chosen)


def with_context(table: pd.DataFrame, context: pd.DataFrame | None) -> pd.DataFrame:
    """Figures with those that came of exchanging genes, where that was done."""
    return table if context is None else table.join(context)


def figures_of(
    passed: PassSums, name: str, words: Lexicon, half: int = REPORTING, data: int = REAL
) -> pd.DataFrame:
    """`evidence` of all layers of one source, with the layer."""
    parts = []
    for layer, one in enumerate(passed.tallies[name]):
        for units in _blocks(one):
            part = evidence(half_of(passed, one, half, data, units), words)
            part.insert(0, "layer", layer)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def baseline_rows(
    passed: PassSums, name: str, words: Lexicon, limits: Thresholds, context: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row a unit of a baseline: layer, feature, the figures, verdict, and its strongest genes."""
    table = figures_of(passed, name, words)
    table.insert(1, "feature", table.groupby("layer").cumcount())
    table = with_context(table, context)
    table = table.join(verdicts(table, limits))
    table["genes"] = [
        names
        for tally in passed.tallies[name]
        for units in _blocks(tally)
        for names in _strongest_genes(passed, tally, words, units)
    ]
    return table


def _strongest_genes(passed: PassSums, tally: LayerTally, words: Lexicon, units: slice) -> list[str]:
    """Of all cells, as the features' are."""
    choosing, reporting = (half_of(passed, tally, half, REAL, units) for half in (CHOOSING, REPORTING))
    slots_SF = choosing.slots_SF + reporting.slots_SF
    genes_GF = words.gene_GS @ slots_SF[words.slots]
    order_GF = np.argsort(-genes_GF, axis=0, kind="stable")[:TESTED_GENES]
    names = np.array(words.genes, dtype=object)
    return [" ".join(names[order_G[genes_GF[order_G, unit] > 0]]) for unit, order_G in enumerate(order_GF.T)]


def _blocks(tally: LayerTally) -> Iterator[slice]:
    """Units in parts whose slots fit into memory."""
    n_units = tally.bins.total_KF.shape[1]
    for start in range(0, n_units, BLOCK):
        yield slice(start, min(start + BLOCK, n_units))


def make_tables(
    lm: Language,
    units: UnitSource,
    passed: PassSums,
    name: str,
    judged: Judged,
    cells: Sequence[str],
    cfg: AtlasConfig,
) -> dict[str, pd.DataFrame]:
    """All tables of one source. `cells` are the names of the table's cells, by row."""
    words = lexicon(passed.slots.table())
    parts: dict[str, list[pd.DataFrame]] = {}
    for layer, tally in enumerate(passed.tallies[name]):
        for table, rows in _layer(lm, units, passed, tally, layer, words, cells, cfg).items():
            rows.insert(0, "layer", layer)
            parts.setdefault(table, []).append(rows)
    tables = {table: pd.concat(rows, ignore_index=True) for table, rows in parts.items()}
    tables["features"] = _features(tables, judged, words, passed)
    tables["shares"] = pd.concat(
        [verdict_shares(judged.reported), verdict_shares({"other half": judged.other_half})],
        ignore_index=True,
    )
    tables["slots"] = slots_table(lm, passed)
    return tables


def _layer(
    lm: Language,
    units: UnitSource,
    passed: PassSums,
    tally: LayerTally,
    layer: int,
    words: Lexicon,
    cells: Sequence[str],
    cfg: AtlasConfig,
) -> dict[str, pd.DataFrame]:
    """The tables of one layer, from all cells; `plain` are the columns of features that need no verdict."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for units_here in _blocks(tally):
        for table, rows in _sums(lm, passed, tally, words, units_here, cfg).items():
            rows["feature"] += units_here.start
            parts.setdefault(table, []).append(rows)
    tables = {table: _joined(rows) for table, rows in parts.items()}
    tables["plain"] = _plain(tally, passed)
    tables["histogram"] = histogram_table(tally)
    tables["writes"] = writes_table(lm, units, layer, passed.plan.types, cfg.pushed)
    return tables | {"examples": examples_table(passed, tally, cells)}


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _sums(
    lm: Language, passed: PassSums, tally: LayerTally, words: Lexicon, units: slice, cfg: AtlasConfig
) -> dict[str, pd.DataFrame]:
    """The long tables of some units, which are numbered from 0."""
    halves = [half_of(passed, tally, half, REAL, units) for half in (CHOOSING, REPORTING)]
    slots_SF = halves[0].slots_SF + halves[1].slots_SF
    bins = {key: halves[0].bins[key] + halves[1].bins[key] for key in halves[0].bins}
    counts = {key: halves[0].counts[key] + halves[1].counts[key] for key in halves[0].counts}
    total_F = bins["class"].sum(0)
    genes_GF = words.gene_GS @ slots_SF[words.slots]
    families_MF = words.family_MG @ genes_GF

    def by_mass(mass_KF: np.ndarray, name: str, names: Sequence[str], keep: int) -> pd.DataFrame:
        return with_names(largest_rows(mass_KF, of_mass(mass_KF, total_F), keep), name, names)

    def by_rate(key: str, name: str, names: Sequence[str]) -> pd.DataFrame:
        mass_KF = bins[key][: len(names)]
        shares_KF = of_rates(mass_KF, counts[key][: len(names)])
        return with_names(largest_rows(mass_KF, shares_KF, len(names)), name, names)

    return {
        "genes": by_mass(genes_GF, "gene", words.genes, cfg.genes),
        "families": by_mass(families_MF, "family", words.families, FEW),
        "pieces": _pieces(lm, passed, slots_SF, total_F),
        "types": by_rate("type", "cell_type", passed.plan.types),
        "donors": by_rate("donor", "donor", passed.plan.donors),
        "ranks": _ranks(bins["rank"][:-1], counts["rank"][:-1]),
    }


def _plain(tally: LayerTally, passed: PassSums) -> pd.DataFrame:
    """Counts and the distribution of activations, of all cells."""
    layout = passed.layout
    where = [row for start in (0, layout.n_bins) for row in _rows_of(layout, "class", start)]
    total_F = tally.bins.total_KF[where].sum(0).cpu().numpy()
    n_tokens = int(passed.counts.bins[where].sum())
    tokens_F = tally.firing.tokens_2F.sum(0).cpu().numpy()
    columns = {
        "feature": np.arange(len(total_F)),
        "tokens": tokens_F,
        "cells": tally.firing.cells_2F.sum(0).cpu().numpy(),
        "frequency": tokens_F / max(n_tokens, 1),
        "mass": total_F,
        "mean": total_F / np.maximum(tokens_F, 1),
        "maximum": tally.top.held("value")[:, 0],
    }
    counts_KF = tally.firing.histogram_KF.cpu().numpy()
    cumulative_KF = counts_KF.cumsum(0)
    middles = np.array([histogram_edge(k + 0.5) for k in range(N_HISTOGRAM)])
    for name, share in QUANTILES.items():
        reached_F = (cumulative_KF < share * cumulative_KF[-1]).sum(0)
        columns[name] = np.where(cumulative_KF[-1] > 0, middles[np.minimum(reached_F, N_HISTOGRAM - 1)], 0.0)
    return pd.DataFrame(columns)


def _rows_of(layout: BinLayout, name: str, start: int) -> range:
    part = layout.starts()[name]
    return range(start + part.start, start + part.stop)


def _pieces(lm: Language, passed: PassSums, slots_SF: np.ndarray, total_F: np.ndarray) -> pd.DataFrame:
    """Token ids of every class of token, with their text and the number of genes that they stand in."""
    slots = passed.slots.table()
    number_S, tokens = pd.factorize(slots["token"], sort=True)
    mass_PF = np.zeros((len(tokens), slots_SF.shape[1]))
    np.add.at(mass_PF, number_S, slots_SF)
    rows = largest_rows(mass_PF, of_mass(mass_PF, total_F), FEW)
    in_genes = slots[slots["gene"] != ""].groupby("token")["gene"].nunique()
    token = tokens[rows["number"].to_numpy(dtype=int)]
    texts = {int(one): lm.text(int(one)) for one in tokens}
    return rows.assign(
        token=token,
        text=pd.Categorical([texts[int(one)] for one in token]),
        genes=in_genes.reindex(token).fillna(0).to_numpy(dtype=int),
    )[["feature", "token", "text", "mass", "share", "genes"]]


def _ranks(mass_KF: np.ndarray, count_K: np.ndarray) -> pd.DataFrame:
    rows = largest_rows(mass_KF, of_rates(mass_KF, count_K), len(mass_KF))
    ends = np.array([bin_ends(number) for number in range(len(mass_KF))])
    number = rows["number"].to_numpy(dtype=int)
    rows = rows.assign(rank_bin=number, first=ends[number, 0], last=ends[number, 1])
    rows = rows.sort_values(["feature", "rank_bin"], kind="stable")
    return rows[["feature", "rank_bin", "first", "last", "mass", "share"]]


def _features(
    tables: dict[str, pd.DataFrame], judged: Judged, words: Lexicon, passed: PassSums
) -> pd.DataFrame:
    """One row a feature; takes `plain` out of the tables."""
    plain = tables.pop("plain")
    held = judged.reported[DATA[REAL]].drop(columns=["layer", "frequency", "fired"])
    table = pd.concat([plain, held], axis=1)
    table["stable"] = (table["verdict"] == judged.other_half["verdict"]).to_numpy()
    names: Mapping[str, tuple[str, Sequence[str]]] = {
        "top_gene": ("top_gene_number", words.genes),
        "family": ("family_number", words.families),
        "cell_type": ("type_number", passed.plan.types),
        "donor": ("donor_number", passed.plan.donors),
    }
    for name, (number, known) in names.items():
        table[name] = pd.Categorical.from_codes(
            np.where(table["mass"] > 0, table.pop(number), -1), list(known)
        )
    table = table.rename(columns={"rank_number": "rank_bin"})
    ends = [bin_ends(max(number, 0)) for number in table["rank_bin"]]
    table["ranks"] = pd.Categorical([str(a) if a == b else f"{a}–{b}" for a, b in ends])
    table["gene_set"], table["set_share"] = pd.Categorical([""] * len(table)), 0.0
    key = ["layer", "feature"]
    leading = tables["genes"].groupby(key, sort=False).head(NAMED_GENES)
    joined = leading["gene"].astype(str).groupby([leading[k] for k in key]).agg(" ".join)
    pieces = tables["pieces"].groupby(key, sort=False).head(3)
    texts = pieces["text"].astype(str).groupby([pieces[k] for k in key]).agg(list)
    around = tables["pieces"][tables["pieces"]["genes"].astype(int) == 0].groupby(key, sort=False).head(3)
    around = around["text"].astype(str).groupby([around[k] for k in key]).agg(list)
    named_share = pieces.groupby(key, sort=False)["share"].sum()
    first = tables["pieces"].groupby(key, sort=False)[["text", "share"]].first()
    first = first.rename(columns={"text": "piece", "share": "piece_share"})
    pushed_most = _strongest(tables["writes"])
    table = table.join(joined.rename("genes"), on=key).join(texts.rename("pieces"), on=key)
    table = table.join(around.rename("around"), on=key)
    table = table.join(named_share.rename("pieces_share"), on=key)
    table = table.join(first, on=key).join(pushed_most, on=key)
    table["genes"] = table["genes"].fillna("")
    table["pieces"] = [one if isinstance(one, list) else [] for one in table["pieces"]]
    of_prompt = table["verdict"].astype(str) == PROMPT
    outside = [one if isinstance(one, list) else [] for one in table["around"]]
    table["pieces"] = np.where(of_prompt, pd.Series(outside, table.index), table["pieces"])
    table["label"] = [automatic_label(row) for row in table.itertuples()]
    return table.drop(columns=["pieces", "pieces_share", "around"]).astype({"verdict": "category"})


def _strongest(writes: pd.DataFrame) -> pd.DataFrame:
    """The token and the answer that each feature pushes most."""
    first = writes.groupby(["layer", "feature", "kind"], sort=False, observed=True)["text"].first().unstack()
    return first.rename(columns={"token": "writes", "answer": "answer_pushed"})


def histogram_table(tally: LayerTally) -> pd.DataFrame:
    """Bins of activations that are not empty."""
    unit, number = np.nonzero(tally.firing.histogram_KF.cpu().numpy().T)
    edges = np.array([histogram_edge(k) for k in range(N_HISTOGRAM + 1)])
    tokens = tally.firing.histogram_KF.cpu().numpy().T[unit, number]
    return pd.DataFrame({"feature": unit, "low": edges[number], "high": edges[number + 1], "tokens": tokens})


def writes_table(
    lm: Language, units: UnitSource, layer: int, answers: Sequence[str], keep: int
) -> pd.DataFrame:
    """The tokens and answers that each unit of a layer pushes, the strongest push first."""
    found = pushed(lm, units, layer, keep, answers)
    tokens_Fn, n = found.token_Fn.numpy(), found.token_Fn.shape[1]
    features = np.arange(len(tokens_Fn))
    texts = {int(token): lm.text(int(token)) for token in np.unique(tokens_Fn)}
    tokens = pd.DataFrame({"feature": features.repeat(n), "kind": "token", "token": tokens_Fn.ravel()})
    tokens["text"] = [texts[token] for token in tokens["token"]]
    tokens["weight"] = found.weight_Fn.numpy().ravel()
    order_FA = np.argsort(-np.nan_to_num(found.answer_FA.numpy(), nan=-np.inf), axis=1, kind="stable")
    words = pd.DataFrame({"feature": features.repeat(len(answers)), "kind": "answer", "token": -1})
    words["text"] = np.array(answers, dtype=object)[order_FA.ravel()]
    words["weight"] = np.take_along_axis(found.answer_FA.numpy(), order_FA, 1).ravel()
    both = pd.concat([tokens, words[words["weight"].notna()]], ignore_index=True)
    both = both.sort_values("feature", kind="stable", ignore_index=True)
    return both.astype({"kind": "category", "text": "category", "weight": "float32"})


def examples_table(passed: PassSums, tally: LayerTally, cells: Sequence[str]) -> pd.DataFrame:
    """One row an example; contexts without the places outside the cell. `tokens` are token ids."""
    slots, type_of = passed.slots.table(), {one.row: one.type for one in passed.plan.cells}
    parts = []
    for kind, heap in (("top", tally.top), ("sample", tally.samples)):
        unit, place = np.nonzero(np.isfinite(heap.key_Fk))
        taken = {name: heap.held(name)[unit, place] for name in ("row", "position", "slot", "value")}
        id_EW, value_EW = (heap.held(name)[unit, place] for name in ("ids", "values"))
        there_EW = id_EW >= 0
        rows = pd.DataFrame({"feature": unit, "kind": kind, "order": place, **taken})
        rows["start"] = rows["position"] - heap.before + there_EW.argmax(1)
        rows["tokens"] = [ids[there] for ids, there in zip(id_EW, there_EW, strict=True)]
        rows["values"] = [values[there] for values, there in zip(value_EW, there_EW, strict=True)]
        parts.append(rows)
    both = pd.concat(parts, ignore_index=True)
    both = both.sort_values(["feature", "kind", "order"], ascending=[True, False, True], kind="stable")
    both["gene"] = pd.Categorical(slots["gene"].to_numpy()[both.pop("slot").to_numpy()])
    both["cell"] = pd.Categorical([str(cells[row]) for row in both["row"]])
    names = [*passed.plan.types, ""]
    both["cell_type"] = pd.Categorical([names[type_of[row]] for row in both["row"]])
    return both.astype({"kind": "category"}).reset_index(drop=True)


def slots_table(lm: Language, passed: PassSums) -> pd.DataFrame:
    """Every slot with its text, and how many tokens stood there."""
    table = passed.slots.table()
    texts = {int(token): lm.text(int(token)) for token in table["token"].unique()}
    table["text"] = [texts[token] for token in table["token"]]
    table["tokens"] = passed.counts.slots[:, :, REAL].sum(1)
    return table.astype({"gene": "category", "text": "category"})


def largest_rows(mass_KF: np.ndarray, share_KF: np.ndarray, keep: int) -> pd.DataFrame:
    """feature, number (row of the matrices), mass, share: the `keep` largest masses of each unit, the largest
    first, without those that are 0. Ties go to the first."""
    if not len(mass_KF):
        return pd.DataFrame({"feature": [], "number": [], "mass": [], "share": []}).astype(
            {"feature": int, "number": int}
        )
    keep = min(keep, len(mass_KF))
    order_kF = np.argsort(-mass_KF, axis=0, kind="stable")[:keep]
    mass_kF = np.take_along_axis(mass_KF, order_kF, 0)
    share_kF = np.take_along_axis(share_KF, order_kF, 0)
    feature = np.broadcast_to(np.arange(mass_KF.shape[1]), mass_kF.shape)
    columns = {"feature": feature, "number": order_kF, "mass": mass_kF, "share": share_kF}
    there = mass_kF.T.ravel() > 0
    return pd.DataFrame({name: values.T.ravel()[there] for name, values in columns.items()})


def with_names(table: pd.DataFrame, name: str, names: Sequence[str]) -> pd.DataFrame:
    """With the numbers replaced by names, in a column called `name`."""
    column = pd.Categorical.from_codes(table["number"].to_numpy(dtype=int), categories=list(names))
    return table.assign(**{name: column})[["feature", name, "mass", "share"]]


def of_mass(mass_KF: np.ndarray, total_F: np.ndarray) -> np.ndarray:
    """Shares of each unit's mass."""
    return mass_KF / np.where(total_F > 0, total_F, 1.0)


def of_rates(mass_KF: np.ndarray, count_K: np.ndarray) -> np.ndarray:
    """Shares of mass per token, so that bins of unequal size compare."""
    rate_KF = mass_KF / np.maximum(count_K, 1)[:, None]
    total_F = rate_KF.sum(0)
    return rate_KF / np.where(total_F > 0, total_F, 1.0)

"""The tables of an atlas from what the pass left behind (columns: see the room's opening words).

Legend: F units, S slots, K bins or entries of a matrix, E examples, W tokens of context, n tokens, A answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scx_core.atlas.collect.one_pass import PassSums
from scx_core.atlas.collect.sums import N_HISTOGRAM, histogram_edge
from scx_core.atlas.collect.tally import LayerTally
from scx_core.atlas.collect.token_slots import DATA, REAL, bin_ends
from scx_core.atlas.collect.units import UnitSource, pushed
from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.judge.protocol import (
    NAMED,
    PROMPT,
    automatic_label,
    verdict_shares,
)
from scx_core.atlas.judge.unit_figures import Judged, Lexicon, both_halves, in_unit_blocks, lexicon
from scx_core.cells import CellTable
from scx_core.language import Language, answer_labels

KEY = ["layer", "feature"]
FEW = 10  # families and pieces kept of a feature
NAMED_GENES = 5
QUANTILES = {"q50": 0.5, "q90": 0.9, "q99": 0.99}


def make_tables(
    lm: Language,
    units: UnitSource,
    passed: PassSums,
    name: str,
    judged: Judged,
    table: CellTable,
    cfg: AtlasConfig,
) -> dict[str, pd.DataFrame]:
    """All tables of one source; `table` holds the cells that were passed over."""
    words, cells = lexicon(passed.slots.table()), table.cell_ids.tolist()
    answers = answer_labels(lm, table)
    parts: dict[str, list[pd.DataFrame]] = {}
    for layer, tally in enumerate(passed.tallies[name]):
        found = _layer(lm, passed, tally, words, cells, cfg)
        found["writes"] = writes_table(lm, units, layer, answers, cfg.pushed)
        for key, rows in found.items():
            rows.insert(0, "layer", layer)
            parts.setdefault(key, []).append(rows)
    tables = {key: pd.concat(rows, ignore_index=True) for key, rows in parts.items()}
    tables["features"] = _features(tables, judged, words, passed)
    tables["shares"] = pd.concat(
        [verdict_shares(judged.reported), verdict_shares({"other half": judged.other_half})],
        ignore_index=True,
    )
    tables["slots"] = slots_table(lm, passed)
    return tables


def _layer(
    lm: Language,
    passed: PassSums,
    tally: LayerTally,
    words: Lexicon,
    cells: Sequence[str],
    cfg: AtlasConfig,
) -> dict[str, pd.DataFrame]:
    """The tables of one layer, from all cells; `plain` are the columns of features that need no verdict."""
    parts: dict[str, list[pd.DataFrame]] = {}

    def some(here: slice) -> dict[str, pd.DataFrame]:
        found = _sums(lm, passed, tally, words, here, cfg)
        return {table: rows.assign(feature=rows["feature"] + here.start) for table, rows in found.items()}

    for found in in_unit_blocks(tally, some):
        for table, rows in found.items():
            parts.setdefault(table, []).append(rows)
    tables = {table: pd.concat(rows, ignore_index=True) for table, rows in parts.items()}
    tables["plain"] = _plain(tally, passed)
    # bins of activations that are not empty
    unit, number = np.nonzero(tally.firing.histogram_KF.cpu().numpy().T)
    edges = np.array([histogram_edge(k) for k in range(N_HISTOGRAM + 1)])
    tokens = tally.firing.histogram_KF.cpu().numpy().T[unit, number]
    tables["histogram"] = pd.DataFrame(
        {"feature": unit, "low": edges[number], "high": edges[number + 1], "tokens": tokens}
    )
    return tables | {"examples": examples_table(passed, tally, cells)}


def _sums(
    lm: Language, passed: PassSums, tally: LayerTally, words: Lexicon, units: slice, cfg: AtlasConfig
) -> dict[str, pd.DataFrame]:
    """The long tables of some units, which are numbered from 0."""
    slots_SF, bins, counts = both_halves(passed, tally, units)
    total_F = bins["class"].sum(0)
    genes_GF = words.gene_GS @ slots_SF[words.slots]

    def by_mass(mass_KF: np.ndarray, name: str, names: Sequence[str], keep: int) -> pd.DataFrame:
        return with_names(largest_rows(mass_KF, of_mass(mass_KF, total_F), keep), name, names)

    def by_rate(key: str, name: str, names: Sequence[str]) -> pd.DataFrame:
        mass_KF = bins[key][: len(names)]
        shares_KF = of_rates(mass_KF, counts[key][: len(names)])
        return with_names(largest_rows(mass_KF, shares_KF, len(names)), name, names)

    # token ids of every class of token, with their text and the number of genes that they stand in
    slots = passed.slots.table()
    number_S, tokens = pd.factorize(slots["token"], sort=True)
    mass_PF = np.zeros((len(tokens), slots_SF.shape[1]))
    np.add.at(mass_PF, number_S, slots_SF)
    rows = largest_rows(mass_PF, of_mass(mass_PF, total_F), FEW)
    in_genes = slots[slots["gene"] != ""].groupby("token")["gene"].nunique()
    token = tokens[rows["number"].to_numpy(dtype=int)]
    texts = {int(one): lm.text(int(one)) for one in tokens}
    return {
        "genes": by_mass(genes_GF, "gene", words.genes, cfg.genes),
        "families": by_mass(words.family_MG @ genes_GF, "family", words.families, FEW),
        "pieces": rows.assign(
            token=token,
            text=pd.Categorical([texts[int(one)] for one in token]),
            genes=in_genes.reindex(token).fillna(0).to_numpy(dtype=int),
        )[["feature", "token", "text", "mass", "share", "genes"]],
        "types": by_rate("type", "cell_type", passed.plan.types),
        "donors": by_rate("donor", "donor", passed.plan.donors),
        "ranks": _ranks(bins["rank"][:-1], counts["rank"][:-1]),
    }


def _plain(tally: LayerTally, passed: PassSums) -> pd.DataFrame:
    """Counts and the distribution of activations, of all cells."""
    total_F = tally.bins.total_KF[passed.class_bins].sum(0).cpu().numpy()
    tokens_F = tally.firing.tokens_2F.sum(0).cpu().numpy()
    columns = {
        "feature": np.arange(len(total_F)),
        "tokens": tokens_F,
        "cells": tally.firing.cells_2F.sum(0).cpu().numpy(),
        "frequency": tokens_F / max(passed.n_tokens, 1),
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
    pieces = tables["pieces"]
    outside = pieces[pieces["genes"].astype(int) == 0]
    first = pieces.groupby(KEY, sort=False)[["text", "share"]].first()
    writes = tables["writes"].groupby([*KEY, "kind"], sort=False, observed=True)["text"].first().unstack()
    for columns in (
        _of_each(tables["genes"], "gene", NAMED_GENES, " ".join).rename("genes"),
        _of_each(pieces, "text", NAMED, list).rename("pieces"),
        _of_each(outside, "text", NAMED, list).rename("outside"),
        pieces.groupby(KEY, sort=False).head(NAMED).groupby(KEY, sort=False)["share"].sum().rename("named"),
        first.rename(columns={"text": "piece", "share": "piece_share"}),
        writes.rename(columns={"token": "writes", "answer": "answer_pushed"}),
    ):
        table = table.join(columns, on=KEY)
    table = table.rename(columns={"named": "pieces_share"}).fillna({"genes": ""})
    shown = np.where(table["verdict"].astype(str) == PROMPT, table["outside"], table["pieces"])
    table["pieces"] = [one if isinstance(one, list) else [] for one in shown]
    table["label"] = [automatic_label(row) for row in table.itertuples()]
    return table.drop(columns=["pieces", "pieces_share", "outside"]).astype({"verdict": "category"})


def _of_each(rows: pd.DataFrame, column: str, n: int, gather: Callable[[pd.Series], Any]) -> pd.Series:
    """The texts of the first `n` rows of each feature, gathered."""
    rows = rows.groupby(KEY, sort=False).head(n)
    return rows[column].astype(str).groupby([rows[name] for name in KEY]).agg(gather)


def writes_table(
    lm: Language, units: UnitSource, layer: int, answers: Sequence[str], keep: int
) -> pd.DataFrame:
    """The tokens and the model's answers that each unit of a layer pushes, the strongest push first."""
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
    """One row an example; contexts without what lies outside the cell. `tokens` are token ids."""
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

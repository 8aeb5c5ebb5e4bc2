"""The tables of an atlas from what the pass left behind (columns: see the room's opening words).

Legend: F units, S slots, K bins, W tokens of context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from scx_core.atlas.config import AtlasConfig
from scx_core.atlas.evidence import Lexicon, evidence, half_of, lexicon
from scx_core.atlas.long import largest_rows, named, of_mass, of_rates
from scx_core.atlas.outputs import pushed
from scx_core.atlas.passing import Passed
from scx_core.atlas.places import DATA, REAL, bin_ends
from scx_core.atlas.protocol import Thresholds, choose_thresholds, verdict_shares, verdicts
from scx_core.atlas.sums import N_HISTOGRAM, histogram_edge
from scx_core.atlas.tally import LayerTally
from scx_core.atlas.units import UnitSource
from scx_core.atlas.wording import automatic_label
from scx_core.language import Language

CHOOSING, REPORTING = 0, 1  # the halves
FEW = 10  # families and pieces kept of a feature
NAMED_GENES = 5
QUANTILES = {"q50": 0.5, "q90": 0.9, "q99": 0.99}


class Judged(NamedTuple):
    """Figures of all layers with verdicts, by data (`places.DATA`) of the reporting half; the verdicts of
    the choosing half on the real data; the thresholds."""

    reported: dict[str, pd.DataFrame]
    other_half: pd.DataFrame
    limits: Thresholds


def judge(passed: Passed, name: str, words: Lexicon, limits: Thresholds | None = None) -> Judged:
    """Apply the protocol to one source. Without `limits` they are chosen on this source's nulls."""
    tallies = passed.tallies[name]

    def figures(half: int, data: int) -> pd.DataFrame:
        parts = [evidence(half_of(passed, one, half, data, slice(None)), words) for one in tallies]
        for layer, part in enumerate(parts):
            part.insert(0, "layer", layer)
        return pd.concat(parts, ignore_index=True)

    chosen = limits or choose_thresholds({data: figures(CHOOSING, data) for data in (1, 2)})
    reported = {}
    for number, data in enumerate(DATA):
        table = figures(REPORTING, number)
        reported[data] = table.join(verdicts(table, chosen))
    other = figures(CHOOSING, REAL)
    return Judged(reported, other.join(verdicts(other, chosen)), chosen)


def make_tables(
    lm: Language,
    units: UnitSource,
    passed: Passed,
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
    tables["slots"] = _slots(lm, passed)
    return tables


def _layer(
    lm: Language,
    units: UnitSource,
    passed: Passed,
    tally: LayerTally,
    layer: int,
    words: Lexicon,
    cells: Sequence[str],
    cfg: AtlasConfig,
) -> dict[str, pd.DataFrame]:
    """The tables of one layer, from all cells; `features` are the columns that need no verdict."""
    halves = [half_of(passed, tally, half, REAL, slice(None)) for half in (CHOOSING, REPORTING)]
    slots_SF = halves[0].slots_SF + halves[1].slots_SF
    bins = {key: halves[0].bins[key] + halves[1].bins[key] for key in halves[0].bins}
    counts = {key: halves[0].counts[key] + halves[1].counts[key] for key in halves[0].counts}
    total_F = bins["class"].sum(0)
    genes_GF = words.gene_GS @ slots_SF[words.slots]
    families_MF = words.family_MG @ genes_GF

    def by_mass(mass_KF: np.ndarray, name: str, names: Sequence[str], keep: int) -> pd.DataFrame:
        return named(largest_rows(mass_KF, of_mass(mass_KF, total_F), keep), name, names)

    def by_rate(key: str, name: str, names: Sequence[str]) -> pd.DataFrame:
        mass_KF = bins[key][: len(names)]
        return named(
            largest_rows(mass_KF, of_rates(mass_KF, counts[key][: len(names)]), len(names)), name, names
        )

    tables = {
        "plain": _plain(tally, total_F, sum(half.n_tokens for half in halves)),
        "genes": by_mass(genes_GF, "gene", words.genes, cfg.genes),
        "families": by_mass(families_MF, "family", words.families, FEW),
        "pieces": _pieces(lm, passed, slots_SF, total_F),
        "types": by_rate("type", "cell_type", passed.plan.types),
        "donors": by_rate("donor", "donor", passed.plan.donors),
        "ranks": _ranks(bins["rank"][:-1], counts["rank"][:-1]),
        "histogram": _histogram(tally),
        "writes": _writes(lm, units, layer, passed.plan.types, cfg.pushed),
    }
    return tables | {"examples": _examples(passed, tally, cells)}


def _plain(tally: LayerTally, total_F: np.ndarray, n_tokens: int) -> pd.DataFrame:
    """Counts and the distribution of activations, of all cells."""
    tokens_F = tally.firing.tokens_2F.sum(0).cpu().numpy()
    columns = {
        "feature": np.arange(len(total_F)),
        "tokens": tokens_F,
        "cells": tally.firing.cells_2F.sum(0).cpu().numpy(),
        "frequency": tokens_F / max(n_tokens, 1),
        "mass": total_F,
        "mean": total_F / np.maximum(tokens_F, 1),
        "maximum": tally.top.value_Fk[:, 0].cpu().numpy(),
    }
    counts_KF = tally.firing.histogram_KF.cpu().numpy()
    cumulative_KF = counts_KF.cumsum(0)
    middles = np.array([histogram_edge(k + 0.5) for k in range(N_HISTOGRAM)])
    for name, share in QUANTILES.items():
        reached_F = (cumulative_KF < share * cumulative_KF[-1]).sum(0)
        columns[name] = np.where(cumulative_KF[-1] > 0, middles[np.minimum(reached_F, N_HISTOGRAM - 1)], 0.0)
    return pd.DataFrame(columns)


def _pieces(lm: Language, passed: Passed, slots_SF: np.ndarray, total_F: np.ndarray) -> pd.DataFrame:
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


def _histogram(tally: LayerTally) -> pd.DataFrame:
    unit, number = np.nonzero(tally.firing.histogram_KF.cpu().numpy().T)
    edges = np.array([histogram_edge(k) for k in range(N_HISTOGRAM + 1)])
    tokens = tally.firing.histogram_KF.cpu().numpy().T[unit, number]
    return pd.DataFrame({"feature": unit, "low": edges[number], "high": edges[number + 1], "tokens": tokens})


def _writes(lm: Language, units: UnitSource, layer: int, answers: Sequence[str], keep: int) -> pd.DataFrame:
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


def _examples(passed: Passed, tally: LayerTally, cells: Sequence[str]) -> pd.DataFrame:
    """One row an example; contexts without the places outside the cell. `tokens` are token ids."""
    slots, who = passed.slots.table(), {one.row: one for one in passed.plan.who}
    parts = []
    for kind, heap in (("top", tally.top), ("sample", tally.samples)):
        unit, place = np.nonzero(np.isfinite(heap.key_Fk.cpu().numpy()))
        taken = {
            name: getattr(heap, f"{name}_Fk").cpu().numpy()[unit, place]
            for name in ("row", "position", "slot", "value")
        }
        id_EW, value_EW = (getattr(heap, name).cpu().numpy()[unit, place] for name in ("id_FkW", "value_FkW"))
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
    both["cell_type"] = pd.Categorical([names[who[row].type] for row in both["row"]])
    return both.astype({"kind": "category"}).reset_index(drop=True)


def _features(
    tables: dict[str, pd.DataFrame], judged: Judged, words: Lexicon, passed: Passed
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
    first = tables["pieces"].groupby(key, sort=False)[["text", "share"]].first()
    first = first.rename(columns={"text": "piece", "share": "piece_share"})
    pushed_most = _strongest(tables["writes"])
    table = table.join(joined.rename("genes"), on=key).join(texts.rename("pieces"), on=key)
    table = table.join(first, on=key).join(pushed_most, on=key)
    table["genes"] = table["genes"].fillna("")
    table["pieces"] = [one if isinstance(one, list) else [] for one in table["pieces"]]
    table["label"] = [automatic_label(row) for row in table.itertuples()]
    return table.drop(columns="pieces").astype({"verdict": "category"})


def _strongest(writes: pd.DataFrame) -> pd.DataFrame:
    """The token and the answer that each feature pushes most."""
    first = writes.groupby(["layer", "feature", "kind"], sort=False, observed=True)["text"].first().unstack()
    return first.rename(columns={"token": "writes", "answer": "answer_pushed"})


def _slots(lm: Language, passed: Passed) -> pd.DataFrame:
    """Every slot with its text, and how many tokens stood there."""
    table = passed.slots.table()
    texts = {int(token): lm.text(int(token)) for token in table["token"].unique()}
    table["text"] = [texts[token] for token in table["token"]]
    table["tokens"] = passed.counts.slots[:, :, REAL].sum(1)
    return table.astype({"gene": "category", "text": "category"})

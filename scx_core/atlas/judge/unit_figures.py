"""Figures and verdicts of every unit, from the sums of the pass.

Shares are of a unit's mass. The same function makes the figures of the real data and of both nulls, so that
they can only differ by what was shuffled.

Gene families are a rule on the symbol alone, so that it holds for any table (docs/features.md):
1. A symbol that is a clone or a placeholder has no family: C19ORF43, LINC00152, AC012345.1, KIAA0040, FAM26F.
2. A symbol that begins with one of `STEMS` belongs to the longest of them: HLA-DRA → HLA-, MT-CO1 → MT-,
   RPL13A → RPL, S100A8 → S100, IGHM → IGH.
3. Else the letters in front of the first digit, when there are at least three of them: EIF4A1 → EIF,
   GZMB has no digit → GZMB alone. CD74, KLF6: two letters are a register ("cluster of differentiation"),
   three are a family.
A family counts only where the table has two genes of it.
Legend: F units, S slots, G genes, P pieces (token ids), K bins of a tally.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from scx_core.atlas.collect.one_pass import PassSums
from scx_core.atlas.collect.tally import LayerTally
from scx_core.atlas.collect.token_slots import ACTIVATIONS, DATA, REAL
from scx_core.atlas.judge.protocol import VerdictThresholds, choose_thresholds, verdicts
from scx_core.runs.micro_batch import MicroBatch
from scx_core.sentences import GENE

T = TypeVar("T")

TOP = 5  # genes that a gene-level feature may have (the seed paper looks at a feature's strongest genes)
# A piece belongs to one family (or gene) when so much of its occurrence does.
PRIVATE = 0.9
CHOOSING, REPORTING = 0, 1  # the halves
BLOCK = 1024  # units whose slots are dense at a time
TESTED_GENES = 10  # of a baseline's unit: gene sets are tested on so many


class Lexicon(NamedTuple):
    """The slots of gene tokens as matrices: `gene_GS`, `piece_PS` and `family_MG` are 0/1 and sparse.
    `token_VS` has all slots, by token id.

    `slots` are the gene slots' numbers, `first_S` marks first pieces of genes; `owner_G` is the family of a
    gene, or the gene itself, as a number.
    """

    slots: np.ndarray
    genes: list[str]
    pieces: np.ndarray
    families: list[str]
    gene_GS: sp.csr_matrix
    piece_PS: sp.csr_matrix
    family_MG: sp.csr_matrix
    owner_G: np.ndarray
    first_S: np.ndarray
    token_VS: sp.csr_matrix


def lexicon(slots: pd.DataFrame) -> Lexicon:
    """Genes, pieces and families of a slot table."""
    here = slots[slots["class"] == GENE]
    gene_S, genes = pd.factorize(here["gene"], sort=True)
    piece_S, pieces = pd.factorize(here["token"], sort=True)
    by_gene = families(genes)
    named = sorted(set(by_gene.values()))
    family_G = np.array([named.index(by_gene[gene]) if gene in by_gene else -1 for gene in genes], dtype=int)
    owner_G = np.where(family_G >= 0, family_G, len(named) + np.arange(len(genes)))
    inside = np.flatnonzero(family_G >= 0)
    return Lexicon(
        here.index.to_numpy(),
        list(genes),
        pieces.to_numpy(),
        named,
        _indicator(gene_S, genes),
        _indicator(piece_S, pieces),
        sp.csr_matrix((np.ones(len(inside)), (family_G[inside], inside)), (len(named), len(genes))),
        owner_G,
        (here["piece"] == 0).to_numpy(),
        _indicator(*pd.factorize(slots["token"], sort=True)),
    )


def _indicator(number_S: np.ndarray, names: Sequence[Any] | np.ndarray | pd.Index) -> sp.csr_matrix:
    shape = (len(names), len(number_S))
    return sp.csr_matrix((np.ones(len(number_S)), (number_S, np.arange(len(number_S)))), shape)


class HalfSums(NamedTuple):
    """What is summed up of one layer in one half: mass by slot [S, F] and the tokens there [S]; mass by bin
    of the small tallies, and the tokens there; how often units fire [F] among `n_tokens`, and the sums of
    their squared activations [F]."""

    slots_SF: np.ndarray
    count_S: np.ndarray
    bins: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    fired_F: np.ndarray
    square_F: np.ndarray
    n_tokens: int


def half_of(passed: PassSums, tally: LayerTally, half: int, data: int, units: slice) -> HalfSums:
    """The sums of some units. With `data` ACTIVATIONS the shuffled tallies take the place of the real; of a
    light tally there are only the real ones."""
    n_slots, n_bins = len(passed.slots), passed.layout.n_bins
    rows = (torch.arange(n_slots, device=tally.bins.total_KF.device) * 2 + half) * tally.n_data + data
    starts = passed.layout.starts()
    bins, counts = {}, {}
    for name in ("class", "rank", "type", "donor"):
        source = f"{name}_null" if data == ACTIVATIONS and f"{name}_null" in starts else name
        where = slice(starts[source].start + half * n_bins, starts[source].stop + half * n_bins)
        bins[name] = tally.bins.total_KF[where, units].cpu().numpy()
        counts[name] = passed.counts.bins[where]
    return HalfSums(
        tally.slots.take(rows, units).cpu().numpy().astype(np.float64),
        passed.counts.slots[:, half, data],
        bins,
        counts,
        tally.firing.tokens_2F[half, units].cpu().numpy(),
        tally.firing.squares_2F[half, units].cpu().numpy(),
        int(counts["class"].sum()),
    )


def evidence(half: HalfSums, words: Lexicon) -> pd.DataFrame:
    """One row a unit: the shares that verdicts rest on. Numbers of genes, families, … are those of `words`
    and of the bins; −1 where there is none."""
    slots_SF, count_S = half.slots_SF[words.slots], half.count_S[words.slots]
    total_F = half.bins["class"].sum(0)
    share_F = 1.0 / np.where(total_F > 0, total_F, 1.0)
    genes_GF = words.gene_GS @ slots_SF
    found = {
        "fired": half.fired_F,
        "frequency": half.fired_F / max(half.n_tokens, 1),
        **{
            name: half.bins["class"][kind] * share_F for kind, name in enumerate(("prompt", "gene", "answer"))
        },
        **_genes(genes_GF, share_F),
        **_largest("family", words.family_MG @ genes_GF, share_F),
        **_spelling(slots_SF, count_S, words, share_F),
        "token_share": token_share(half, words),
        "first_piece": slots_SF[words.first_S].sum(0) / np.maximum(slots_SF.sum(0), 1e-30),
    }
    for name in ("type", "donor", "rank"):
        number_F, rate_F = share_of_rates(half.bins[name][:-1], half.counts[name][:-1])
        found |= {f"{name}_number": number_F, f"{name}_share": rate_F}
    return pd.DataFrame(found)


def token_share(half: HalfSums, words: Lexicon) -> np.ndarray:
    """Share of each unit's variance over tokens that the token alone explains, [F]: the variance of the
    means by token id over the variance of all activations (correlation ratio, η²); 0 of a unit that never
    varies."""
    sum_VF = words.token_VS @ half.slots_SF
    count_V = words.token_VS @ half.count_S
    there_V = count_V > 0
    common_F = half.slots_SF.sum(0) ** 2 / max(half.count_S.sum(), 1)
    between_F = (sum_VF[there_V] ** 2 / count_V[there_V, None]).sum(0) - common_F
    total_F = half.square_F - common_F
    varies_F = total_F > 1e-12 * np.maximum(half.square_F, 1e-300)
    return np.where(varies_F, np.clip(between_F / np.where(varies_F, total_F, 1.0), 0.0, 1.0), 0.0)


def _genes(genes_GF: np.ndarray, share_F: np.ndarray) -> dict[str, np.ndarray]:
    """The strongest gene, the share of the strongest five, and how many genes hold half of all mass."""
    order_GF = -np.sort(-genes_GF, axis=0) * share_F
    cumulative_GF = np.cumsum(order_GF, axis=0)
    reached_F = cumulative_GF[-1] >= 0.5
    n_half_F = np.where(reached_F, (cumulative_GF < 0.5).sum(0) + 1, -1)
    top = cumulative_GF[min(TOP, len(cumulative_GF)) - 1]
    return {"top_gene_number": genes_GF.argmax(0), "top5": top, "n_half": n_half_F}


def _largest(name: str, mass_KF: np.ndarray, share_F: np.ndarray) -> dict[str, np.ndarray]:
    if not len(mass_KF):
        return {f"{name}_number": np.full(len(share_F), -1), f"{name}_share": np.zeros(len(share_F))}
    number_F = mass_KF.argmax(0)
    return {f"{name}_number": number_F, f"{name}_share": mass_KF.max(0) * share_F}


def _spelling(
    slots_SF: np.ndarray, count_S: np.ndarray, words: Lexicon, share_F: np.ndarray
) -> dict[str, np.ndarray]:
    """How much of the mass the spelling alone explains.

    A feature that reads a piece of text is active wherever that piece stands: within each piece its mass
    follows the occurrences. What both have in common, Σ min(mass, mass expected from occurrences), over
    those of the five strongest pieces that unrelated genes share, is the spelling share. A piece is not
    shared when 90 % of its occurrences are in one gene or family.
    """
    pieces_PF = words.piece_PS @ slots_SF
    count_P = words.piece_PS @ count_S
    weight_S = count_S / np.maximum(words.piece_PS.T @ count_P, 1)
    expected_SF = (words.piece_PS.T @ pieces_PF) * weight_S[:, None]
    spelled_PF = words.piece_PS @ np.minimum(slots_SF, expected_SF)
    spelled_PF *= shared_pieces(count_S, words)[:, None]
    top_5F = np.argsort(-pieces_PF, axis=0, kind="stable")[:TOP]
    return {
        "top5_pieces": np.take_along_axis(pieces_PF, top_5F, 0).sum(0) * share_F,
        "spelling": np.take_along_axis(spelled_PF, top_5F, 0).sum(0) * share_F,
    }


def shared_pieces(count_S: np.ndarray, words: Lexicon) -> np.ndarray:
    """1.0 for each piece that genes of different families share, [P]."""
    owner_S = words.gene_GS.T @ words.owner_G
    by_owner = sp.csr_matrix(
        (count_S.astype(float), (words.piece_PS.T @ np.arange(len(words.pieces)), owner_S)),
        (len(words.pieces), int(words.owner_G.max(initial=0)) + 1),
    )
    largest_P = by_owner.max(axis=1).toarray().ravel()
    all_P = np.asarray(by_owner.sum(axis=1)).ravel()
    return ((all_P > 0) & (largest_P < PRIVATE * all_P)).astype(float)


def share_of_rates(mass_KF: np.ndarray, count_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bin with the largest mass per token, and its share of the sum of these rates (bins of unequal
    size compare that way)."""
    if not len(mass_KF):
        return np.full(mass_KF.shape[1], -1), np.zeros(mass_KF.shape[1])
    rate_KF = mass_KF / np.maximum(count_K, 1)[:, None]
    total_F = rate_KF.sum(0)
    return rate_KF.argmax(0), rate_KF.max(0) / np.where(total_F > 0, total_F, 1.0)


class Judged(NamedTuple):
    """Figures of all layers with verdicts, by data (`token_slots.DATA`), of the reporting half; the
    verdicts of the choosing half on the real data; the thresholds."""

    reported: dict[str, pd.DataFrame]
    other_half: pd.DataFrame
    limits: VerdictThresholds


def judge(
    passed: PassSums,
    name: str,
    words: Lexicon,
    limits: VerdictThresholds | None = None,
    context: pd.DataFrame | None = None,
) -> Judged:
    """Apply the protocol to one source. Without `limits` they are chosen on this source's nulls. `context`
    has what was found by exchanging genes (`measure_context`), a row a unit."""
    nulls = (number for number in range(len(DATA)) if number != REAL)
    limits = limits or choose_thresholds({n: figures_of(passed, name, words, CHOOSING, n) for n in nulls})
    reported = {}
    for number, data in enumerate(DATA):
        table = figures_of(passed, name, words, REPORTING, number, context if number == REAL else None)
        reported[data] = table.join(verdicts(table, limits))
    other = figures_of(passed, name, words, CHOOSING, REAL, context)
    return Judged(reported, other.join(verdicts(other, limits)), limits)


def figures_of(
    passed: PassSums,
    name: str,
    words: Lexicon,
    half: int = REPORTING,
    data: int = REAL,
    context: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`evidence` of all layers of one source, with the layer, and `context` where genes were exchanged."""
    parts = []
    for layer, one in enumerate(passed.tallies[name]):
        for sums in in_unit_blocks(one, partial(half_of, passed, one, half, data)):
            part = evidence(sums, words)
            part.insert(0, "layer", layer)
            parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    return table if context is None else table.join(context)


def baseline_rows(
    passed: PassSums,
    name: str,
    words: Lexicon,
    limits: VerdictThresholds,
    context: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """One row a unit of a baseline: layer, feature, the figures, verdict, and its strongest genes."""
    table = figures_of(passed, name, words, context=context)
    table.insert(1, "feature", table.groupby("layer").cumcount())
    table = table.join(verdicts(table, limits))
    names, strongest = np.array(words.genes, dtype=object), []
    for tally in passed.tallies[name]:
        # of all cells, as the features' are
        for mass_SF, *_ in in_unit_blocks(tally, partial(both_halves, passed, tally)):
            genes_GF = words.gene_GS @ mass_SF[words.slots]
            order_GF = np.argsort(-genes_GF, axis=0, kind="stable")[:TESTED_GENES]
            strongest += [
                " ".join(names[order_G[genes_GF[order_G, unit] > 0]])
                for unit, order_G in enumerate(order_GF.T)
            ]
    return table.assign(genes=strongest)


def in_unit_blocks(tally: LayerTally, job: Callable[[slice], T]) -> Iterator[T]:
    """`job` on a tally's units, in parts whose slots fit into memory, smaller ones where they do not."""
    micro = MicroBatch(units="units of a tally")
    return micro.pieces(job, tally.bins.total_KF.shape[1], BLOCK)


def both_halves(
    passed: PassSums, tally: LayerTally, units: slice
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Of all cells and the real data: mass by slot [S, F]; mass by bin of the small tallies, and the tokens
    there."""
    one, other = (half_of(passed, tally, half, REAL, units) for half in (CHOOSING, REPORTING))
    bins = {name: mass_KF + other.bins[name] for name, mass_KF in one.bins.items()}
    counts = {name: count_K + other.counts[name] for name, count_K in one.counts.items()}
    return one.slots_SF + other.slots_SF, bins, counts


# Gene families whose names do not part from their members' at a digit, or that are known by two letters.
STEMS = (
    *("HLA-", "MT-", "RPL", "RPS", "MRPL", "MRPS", "IGH", "IGK", "IGL", "TRA", "TRB", "TRD", "TRG"),
    *("S100", "NDUF", "COX", "ATP5", "ATP6", "UQCR", "PSM", "HIST", "HSP", "GZM", "KLR", "KIR", "LILR"),
    *("IFIT", "IFI", "FCER", "FCGR", "C1Q", "MS4A", "MYL", "MYH", "COL", "CCL", "CXCL", "CCR", "CXCR"),
    *("KRT", "SLC", "ZNF", "TUBA", "TUBB", "PPP1", "PPP2", "PTPR", "SERPIN", "TNFRSF", "TNFSF", "HB"),
)
# T-cell receptors and haemoglobins share their stems with other genes (TRADD, HBEGF): only these belong.
ONLY = {
    "TRA": re.compile(r"TRA[CJV]\d*"),
    "TRB": re.compile(r"TRB[CDJV]\d+"),
    "TRD": re.compile(r"TRD[CDJV]\d*"),
    "TRG": re.compile(r"TRG[CJV]\d*"),
    "HB": re.compile(r"HB[ABDEGMQZ]\d?$"),
    "IGH": re.compile(r"IGH[ADEGMJV]"),
    "IGK": re.compile(r"IGK[CJV]"),
    "IGL": re.compile(r"IGL[CJLV]"),
    "COX": re.compile(r"COX\d"),
}
PLACEHOLDER = re.compile(r"(C\d+ORF|CXORF|LINC|LOC\d|KIAA|FAM\d|TMEM\d|A[CFLP]\d{5}|RP\d+-|CT[ABCD]-|MIR\d)")
LETTERS = re.compile(r"([A-Z]{3,})\d")


def stem(symbol: str) -> str | None:
    """The family that a symbol names, None for a gene that stands alone by its name."""
    if PLACEHOLDER.match(symbol):
        return None
    found = [s for s in STEMS if symbol.startswith(s) and (s not in ONLY or ONLY[s].match(symbol))]
    if found:
        return max(found, key=len)
    letters = LETTERS.match(symbol)
    return letters.group(1) if letters else None


def families(symbols: Iterable[str]) -> Mapping[str, str]:
    """Gene → family, for the genes whose family has at least two members among `symbols`."""
    by_gene = {symbol: found for symbol in symbols if (found := stem(symbol))}
    members = Counter(by_gene.values())
    return {symbol: found for symbol, found in by_gene.items() if members[found] > 1}

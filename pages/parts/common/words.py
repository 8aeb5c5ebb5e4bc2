"""Words: untrusted names made safe for Markdown, numbers with units, and one line of help a term."""

from __future__ import annotations

import math
import re
from pathlib import Path

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")

# The families of transcoders as their papers write them.
KINDS = {"relu": "ReLU", "topk": "TopK", "batchtopk": "BatchTopK", "jumprelu": "JumpReLU"}
# What a set is, whatever its gate; and the choices that make it one.
FORMS = {"transcoder": "Transcoders", "sae": "SAEs", "cross-layer": "Cross-layer transcoders"}
READS = {"input": "the MLP's input", "output": "the MLP's output (SAE)"}
WRITES = {"own": "their own MLP's output", "later": "all later MLPs too (cross-layer)"}

DEFINED = {
    "transcoders": "Sparse stand-ins for the model's MLPs, one a layer: few features are active at a token, "
    "so that one can follow what each of them does.",
    "form": "Transcoders read an MLP's input and stand in for it. SAEs read its output: for comparison, they "
    "cannot be traced. Cross-layer transcoders write to the outputs of all later MLPs too; circuits are "
    "traced through them, paths and tests in the real model are not made with them.",
    "circuit": "The genes and features that add to the answer's score in the frozen model, and how they feed "
    "each other.",
    "consensus": "What the circuits of many cells of one type have in common.",
    "scope": "What the circuits of many cells of the type have in common, the circuit of one cell, or, "
    "against a type of this data set, how the circuits of the two types differ.",
    "effect": "What the gene adds to the answer's score in the frozen model, over all paths. An exact "
    "account of that model; not what the answer loses without the gene.",
    "knockout": "In the real model, nothing frozen: the answer's score before less after. A neutral gene in "
    "its place, or the gene taken out and the rest moved up; positive speaks for the answer. The mean "
    "over all cells, 0 where a cell lacks the gene (as the frozen attribution's), with its 95% interval.",
    "tested": "Each mean is tested: in a difference, whether both sides are equal; else, whether it is 0. "
    "Only what has q below 0.05 is called higher or lower; the rest may differ less than so many cells show. "
    "Beside it: what the same rule finds between two random halves of one type, where nothing differs.",
    "q": "Among all genes with a q as small as this one's, the share that chance alone is expected to give.",
    "ties": "Genes of equal expression are ordered by a seed. Where they stand at the end of the sentence, "
    "the seed also decides which of them are in it: another seed, another sentence of the same cell.",
    "share": "Share of the cells whose sentence holds the gene.",
    "against": "The score that is explained is how much more likely the answer is than these competitors: "
    "the log-odds of whole answers, or the difference of two tokens' scores where one token parts them.",
    "ce": "Cross-entropy: how surprised the model is by the next token, in nats. Lower is better.",
    "watched": "Share of up to 64 of the choosing cells whose whole answer is written rightly, token by "
    "token, asked twenty times or so while the model is trained. It decides about nothing.",
    "ce_recovered": "Share of the loss that the stand-ins win back, between no MLPs (0) and the model (1).",
    "kl": "How far the predictions with stand-ins are from the model's own, in nats a token. 0 is equal.",
    "fvu": "Fraction of variance unexplained: what the stand-in misses of the MLP's output. 0 is perfect.",
    "l0": "Features that are active at a token, mean. Fewer are easier to read.",
    "dead": "Share of the features that never fire.",
    "agreement": "Share of cells whose predicted label survives when every MLP is replaced.",
    "baselines": "What could do as well as the transcoders, without any feature. A linear map of each MLP "
    "and the table by token are fitted on training cells; with features at their mean or without them the "
    "transcoders' own affine path is left. Features are worth reading as far as transcoders better these.",
    "balanced": "Mean over the cell types of the share that is named rightly: each type counts the same.",
    "logistic": "Multinomial logistic regression on the log-normalised expression of the same genes, fitted "
    "on training cells and asked about the same test cells.",
    "sentence": "The cell's genes by falling expression: this text is what the model reads.",
    "values": "The matrix that genes are ranked by. Counts and their logarithm give the same order.",
    "symbols": "Where the gene symbols are. The model reads symbols, not Ensembl ids.",
    "label": "The column with the cell types: what the model learns to answer, and is checked against.",
    "donor": "The column with the donors, so that a split can keep a donor's cells together.",
    "organism": "Stands in the prompt in front of the genes.",
    "file": "How the file is stored, and what identifies it.",
    "cells": "Rows of the file.",
    "genes": "Columns of the file after symbols that are equal in upper case were merged.",
}

# Terms as a reader meets them, of the keys of the dashboard's help texts: one definition for both.
TERMS = {
    "transcoders": "transcoder, stand-in", "form": "SAE, cross-layer transcoder", "circuit": "circuit",
    "consensus": "consensus circuit", "effect": "frozen attribution", "knockout": "knock-out",
    "tested": "test of a mean, p", "q": "q", "ties": "ties", "share": "share of cells",
    "against": "competitors, score", "ce": "CE (cross-entropy)", "ce_recovered": "CE recovered",
    "kl": "KL (divergence)", "fvu": "FVU", "l0": "L0", "dead": "dead features",
    "agreement": "label agreement", "baselines": "baselines, rivals", "balanced": "balanced accuracy",
    "logistic": "logistic regression", "sentence": "cell sentence",
}  # fmt: skip
MORE = {
    "completeness": "Share of each node's input that is not error of the transcoders; 1 is all of it.",
    "replacement score": "Share of the influence on the answer that starts at tokens and not at errors.",
    "accounting error": "By how much the parts that go into a node miss the node, relative to it.",
    "answer": "What the model writes for a cell type. A file's own names of types are mapped to answers.",
    "atlas": "A table with one row a feature: what it is active at, and a verdict beside random directions.",
    "embedded": "What comes with the package: 700 blood cells, a small model, its transcoders, an atlas.",
    "error node": "What the transcoder of a layer misses at a token; it is kept in every account.",
    "faithfulness": "How much of the answer is kept when only a circuit is kept in the real model.",
    "frozen model": "The model with attention patterns, normalisation and gates held at what they are in "
    "this prompt: what is left adds up exactly. Circuits are traced in it.",
    "influence": "Share of the answer's input that comes through a node, over all paths, by absolute size; "
    "what has little is left out of the picture.",
    "feature": "One unit of a transcoder, written `L2·513` or `2:513`: layer, number.",
    "gap, text": "Two ways to take a gene out: a neutral gene in its place; or the rest moves up.",
    "ladder": "Six levels of claims, from an exact account to agreement with measured biology.",
    "node, edge": "A gene's token, a feature, an error or a bias; what one adds to another directly.",
    "planted": "Simulated cells whose rules are known, with a model that learned them.",
    "supernode": "Features that are taken as one step, by a person or a proposal.",
    "tracer": "Cells, model and transcoders put together, so that several questions can be asked of them.",
    "verdict": "What an atlas says that a feature responds to: a gene, a family, a cell type, the prompt …",
    "virtual weights": "Connections between features, genes and outputs by weights alone, directly or "
    "through one attention head: the same in every cell, before any attention weight or normalisation.",
}


_TITLES = {key: key for key in MORE} | TERMS


def anchor(key: str) -> str:
    """What a term is called in the address of the page of words: "kl", "frozen-attribution"."""
    first = re.split(r"[,(]", _TITLES[key])[0]
    return "-".join(re.findall(r"[a-z0-9]+", first.lower()))


def word(text: str, key: str) -> str:
    """A text that leads to its definition, in a tab of its own."""
    return f"[{text}](words?term={anchor(key)})"


# One line of help a key; that of a term ends with a way to all of them.
_WAY = "Words"
HELP = {key: f"{text} {word(_WAY, key)}" if key in TERMS else text for key, text in DEFINED.items()}
STAND_INS = word("stand-ins", "transcoders")
_LINKED = re.compile(rf" \[{_WAY}\]\(words\?term=[a-z0-9-]*\)")


def unlinked(text: str) -> str:
    """A help text where no link can be followed, as in a table's head."""
    return _LINKED.sub("", text)


def glossary() -> list[tuple[str, str]]:
    """Every term with its one definition, by the term: for the side bar of every page, and for the site."""
    terms = {title: DEFINED[key] for key, title in TERMS.items()} | MORE
    return sorted(terms.items(), key=lambda one: one[0].lower())


def anchors() -> dict[str, str]:
    """What each term of the glossary is called in the address of the page of words, by the term."""
    return {title: anchor(key) for key, title in _TITLES.items()}


def safe(text: object) -> str:
    """Text from a file or a user as Markdown shows it literally: no links, images, directives or HTML."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(str(text).split()))


def count(n: float, what: str) -> str:
    """ "1 cell", "2,638 cells"."""
    return f"{n:,.0f} {what}" + ("" if n == 1 else "s")


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash when it is not defined."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share as "12%", or a dash."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}%}"


def large(n: float) -> str:
    """A large number, rounded: "640", "64 k", "1.1 M"."""
    for unit, word in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= unit:
            return f"{n / unit:.1f}".removesuffix(".0") + word if n < 10 * unit else f"{n / unit:.0f}{word}"
    return f"{n:.0f}"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that a person would use."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """Bytes as MB or GB."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{max(1, round(n_bytes / 1e6))} MB"


def short(source: str) -> str:
    """The name of a source for people: a run's name for what lies in a run, else the last part of a path."""
    path = Path(source)
    if path.name in ("model", "transcoders") and path.parent.name:
        return path.parent.name
    return path.name or source

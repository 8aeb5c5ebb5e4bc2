"""Tokens and gene spans, under a tiny tokenizer and under Pythia's own."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from scx_core.cells import open_cells
from scx_core.errors import ScxError
from scx_core.sentences import GENE, PROMPT, answer_ids, encode, make_prompt, pad_left
from tests.tiny import SYMBOLS, tiny_tokenizer

DATA = Path(os.environ.get("SCX_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
PYTHIA = DATA / "tokenizer" / "pythia_20B_tokenizer.json"
CELLS = ("pbmc3k_10x", "zilionis2019_nsclc")
needs_pythia = pytest.mark.skipif(
    not PYTHIA.exists(), reason=f"{PYTHIA.name} is not here (see SCX_TEST_DATA)"
)
OWN = make_prompt("scx")
HOSTILE = st.text(min_size=1, max_size=12).filter(lambda text: text.strip() == text)


@pytest.fixture(scope="module")
def pythia():
    return PreTrainedTokenizerFast(tokenizer_file=str(PYTHIA))


def spelled(tokenizer, cell) -> list[str]:
    """Each gene as its tokens spell it."""
    return [
        tokenizer.decode(cell.ids[span.start : span.end], clean_up_tokenization_spaces=False).strip()
        for span in cell.spans
    ]


def check_layout(cell, genes) -> None:
    """What holds for any genes: ranks, characters, ordered spans, and classes that follow the spans."""
    assert cell.genes == list(genes)
    assert [span.rank for span in cell.spans] == list(range(1, len(genes) + 1))
    assert [cell.text[slice(*span.chars)] for span in cell.spans] == list(genes)
    filled = [span for span in cell.spans if span.end > span.start]
    assert all(a.end <= b.start for a, b in itertools.pairwise(filled))
    inside = np.full(len(cell.ids), PROMPT)
    for span in filled:
        inside[span.start : span.end] = GENE
    assert np.array_equal(cell.class_T, inside)
    assert [gene is not None for gene in cell.gene_at()] == (inside == GENE).tolist()


@given(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=40, unique=True))
def test_spans_spell_the_genes(genes):
    tokenizer = tiny_tokenizer()
    cell = encode(tokenizer, OWN, genes)
    check_layout(cell, genes)
    assert spelled(tokenizer, cell) == genes
    assert tokenizer.decode(cell.ids, clean_up_tokenization_spaces=False) == cell.text


def test_genes_fall_into_several_tokens_here():
    """Else the tests of spans would show little."""
    cell = encode(tiny_tokenizer(), OWN, SYMBOLS)
    assert np.mean([span.end - span.start for span in cell.spans]) > 2


@given(st.lists(HOSTILE, min_size=1, max_size=6))
def test_hostile_names_keep_the_layout(genes):
    check_layout(encode(tiny_tokenizer(), OWN, genes), genes)


@needs_pythia
@given(st.lists(HOSTILE, min_size=1, max_size=6))
def test_hostile_names_keep_the_layout_under_pythia(pythia, genes):
    check_layout(encode(pythia, OWN, genes), genes)


@pytest.mark.parametrize(
    "genes",
    [
        ["<script>alert(1)</script>", "CD74"],
        ["A.", ".", ".."],
        ["A  B", "C\tD", "E\n\nF"],
        ["ÉTÉ", "E\u0301", "😀", "中文", "\u200d"],
        ["{cell_sentence}", "{0}", "%s", "\\"],
        ["<|ENDOFTEXT|>", "CELL", "TYPE:"],
        ["A" * 300],
        ["CD74"] * 3,
    ],
)
def test_named_hostile_names(genes):
    cell = encode(tiny_tokenizer(), OWN, genes)
    check_layout(cell, genes)
    assert all(span.end > span.start for span in cell.spans)


def test_special_tokens_in_a_name_are_read_as_text():
    """A gene cannot end the text: its name is spelled in ordinary tokens."""
    tokenizer = tiny_tokenizer()
    cell = encode(tokenizer, OWN, ["CD74", tokenizer.eos_token, "LYZ"])
    assert tokenizer.eos_token_id not in cell.ids
    assert spelled(tokenizer, cell)[1] == tokenizer.eos_token


@needs_pythia
@pytest.mark.parametrize("file", CELLS)
def test_every_gene_of_real_files_under_pythia(pythia, file):
    path = DATA / "cells" / f"{file}.h5ad"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    symbols = [str(symbol) for symbol in open_cells(path, require_labels=False).symbols]
    assert len(symbols) > 10_000
    wrong = []
    for start in range(0, len(symbols), 200):
        genes = symbols[start : start + 200]
        cell = encode(pythia, OWN, genes)
        check_layout(cell, genes)
        wrong += [pair for pair in zip(genes, spelled(pythia, cell), strict=True) if pair[0] != pair[1]]
    assert wrong == []


@needs_pythia
def test_a_gene_is_in_pieces_under_pythia(pythia):
    cell = encode(pythia, OWN, ["MALAT1", "TTN"])
    assert pythia.convert_ids_to_tokens(cell.ids[cell.spans[1].start : cell.spans[1].end]) == ["ĠT", "TN"]


@given(st.integers(1, 90))
def test_lowest_genes_go_until_the_prompt_fits(limit):
    tokenizer = tiny_tokenizer()
    whole = encode(tokenizer, OWN, SYMBOLS)
    shortest = len(encode(tokenizer, OWN, SYMBOLS[:1], num_genes=len(SYMBOLS)).ids)
    assume(limit >= shortest)
    cell = encode(tokenizer, OWN, SYMBOLS, max_tokens=limit)
    assert len(cell.ids) <= limit
    assert tuple(cell.genes) == SYMBOLS[: len(cell.genes)]
    assert f"top {len(SYMBOLS)} genes" in cell.text
    one_more = encode(tokenizer, OWN, SYMBOLS[: len(cell.genes) + 1], num_genes=len(SYMBOLS))
    assert len(one_more.ids) > limit or len(cell.genes) == len(whole.genes)


@pytest.mark.parametrize("limit", [-5, 0, 1, 10])
def test_a_context_without_room_is_named(limit):
    with pytest.raises(ScxError, match="no genes that fit"):
        encode(tiny_tokenizer(), OWN, SYMBOLS, max_tokens=limit)


def test_a_cell_without_genes_is_named():
    with pytest.raises(ScxError, match="no genes"):
        encode(tiny_tokenizer(), OWN, [])


def test_a_slow_tokenizer_is_named():
    class Slow:
        is_fast = False

    with pytest.raises(ScxError, match="fast tokenizer"):
        encode(Slow(), OWN, ["CD74"])


def test_stated_number_and_organism():
    cell = encode(tiny_tokenizer(), OWN, ["CD74", "LYZ"], organism="Mus musculus", num_genes=200)
    assert cell.text == "Mus musculus cell, top 200 genes: CD74 LYZ.\nCell type:"


def test_answers_hold_the_lead_and_the_full_stop():
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(answer_ids(tokenizer, "CD19+ B", " ")) == " CD19+ B."
    assert tokenizer.decode(answer_ids(tokenizer, "CD19+ B", "")) == "CD19+ B."


def test_prompt_and_answer_tokenize_apart_as_they_do_together():
    """Else the answer's tokens would not be those that the whole text has."""
    tokenizer = tiny_tokenizer()
    cell = encode(tokenizer, OWN, SYMBOLS)
    together = tokenizer(f"{cell.text} CD4+/CD25 T Reg.")["input_ids"]
    assert [*cell.ids, *answer_ids(tokenizer, "CD4+/CD25 T Reg", " ")] == together


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=5))
def test_padding_stands_on_the_left(sequences):
    padded = pad_left(sequences, 0)
    for ids, mask, sequence in zip(padded.ids_BT, padded.mask_BT, sequences, strict=True):
        assert ids[mask == 1].tolist() == sequence
        assert ids[mask == 0].tolist() == [0] * (len(ids) - len(sequence))
        assert np.all(np.diff(mask) >= 0)

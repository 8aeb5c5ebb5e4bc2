"""Cells put together from pieces: the very ids of whole encoding, or whole encoding itself."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from scx_core.cells import open_cells
from scx_core.errors import ScxError
from scx_core.sentences import Wording, block_encoder, encode_one_by_one, make_prompt, rank_matrix
from scx_core.sentences.encode import AS_TEXT
from scx_core.sentences.pieces import Pieces, _edges
from tests.tiny import SYMBOLS, tiny_tokenizer

DATA = Path(os.environ.get("SCX_TEST_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
PYTHIA = DATA / "tokenizer" / "pythia_20B_tokenizer.json"
REAL = DATA / "cells" / "kang2018_pbmc_ifnb.h5ad"
ODD = (*SYMBOLS, "HLA-", "A.", "X Y", "'S", "É1", "<|endoftext|>")
PROMPTS = (
    "scx",
    "{cell_sentence}:",
    "Of {organism}:{cell_sentence};{num_genes}:",
    "A.\n\n{cell_sentence}\nB:",
)


def words_of(prompt: str = "scx", symbols=ODD, tokenizer=None, limit: int | None = None) -> Wording:
    names = np.array(symbols, dtype=object)
    return Wording(tokenizer or tiny_tokenizer(), make_prompt(prompt), names, "Homo sapiens", 12, limit)


def ranked(n_cells: int, n_genes: int, seed: int = 0) -> np.ndarray:
    """Cells of different genes and of 1 to 12 of them."""
    rng = np.random.default_rng(seed)
    out_CR = np.stack([rng.permutation(n_genes)[:12] for _ in range(n_cells)]).astype(np.int32)
    out_CR[np.arange(12)[None] >= rng.integers(1, 13, n_cells)[:, None]] = -1
    return out_CR


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("limit", [None, 45])
def test_pieces_make_the_same_ids_and_places(prompt, limit):
    words, cells_CR = words_of(prompt, limit=limit), ranked(40, len(ODD))
    pieces = Pieces(words)
    for part_CR in (cells_CR[:7], cells_CR[7:]):  # the second call finds some of its pieces in the store
        assert same(pieces.encode(part_CR), encode_one_by_one(words, part_CR))
    assert pieces.agrees(cells_CR[:3])
    if limit:
        assert np.diff(pieces.encode(cells_CR).start).max() <= limit


LONG = ("W" * 400, "Q7" * 30, "ﷺ" * 9, "NEW\nLINE" * 12, *SYMBOLS[:12])


@pytest.mark.filterwarnings("ignore:The gene")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.permutations(range(len(LONG))), min_size=1, max_size=4),
    st.integers(1, 12),
    st.integers(30, 160),
    st.sampled_from(PROMPTS),
)
def test_names_that_are_too_long_are_left_out_alike(orders, n_genes, limit, prompt):
    """Wherever they stand: cell by cell and by pieces; a cell is refused by both or by neither."""
    words = words_of(prompt, symbols=LONG, limit=limit)
    cells_CR = np.array(orders, np.int32)[:, :n_genes]
    pieces = Pieces(words)
    assert pieces.agrees(np.array([[4, 5, 6]], np.int32))
    alone = {
        g: len(words.tokenizer("".join((*_around(words, LONG[g]),)), **AS_TEXT)["input_ids"]) <= limit
        for g in range(len(LONG))
    }
    for ranked_CR in (cells_CR, *cells_CR[:, None]):
        if not all(any(alone[g] for g in ranked_R) for ranked_R in ranked_CR.tolist()):
            for encoder in (pieces.encode, lambda some_CR: encode_one_by_one(words, some_CR)):
                with pytest.raises(ScxError, match="no genes that fit"):
                    encoder(ranked_CR)
            continue
        whole = encode_one_by_one(words, ranked_CR)
        assert same(pieces.encode(ranked_CR), whole)
        assert np.diff(whole.start).max() <= limit


def _around(words: Wording, gene: str) -> tuple[str, str, str]:
    before, after = words.prompt.parts(num_genes=words.num_genes, organism=words.organism)
    return before, gene, after


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_name_that_is_too_long_takes_no_other_gene_with_it(place):
    """The sentence is what it is without that gene, which is named."""
    words = words_of(symbols=LONG, limit=100)
    rest = [4, 5, 6]
    cells_CR = np.array([[*rest[:place], 0, *rest[place:]]], np.int32)
    without = encode_one_by_one(words, np.array([rest], np.int32))
    for encoder in (Pieces(words).encode, lambda some_CR: encode_one_by_one(words, some_CR)):
        with pytest.warns(UserWarning, match="The gene 'WWW.*400 letters.*shorter name"):
            assert same(encoder(cells_CR), without)


def test_two_long_names_of_which_one_fits_are_no_empty_cell():
    words = words_of(symbols=LONG, limit=90)
    cells_CR = np.array([[1, 3]], np.int32)  # together far too long: more than all genes would be dropped
    for encoder in (Pieces(words).encode, lambda some_CR: encode_one_by_one(words, some_CR)):
        assert encoder(cells_CR).genes_C2[0, 1] > 0


def test_a_tokenizer_that_splits_at_spaces_is_used_by_pieces():
    words = words_of(symbols=SYMBOLS)
    encoder = block_encoder(words, ranked(4, len(SYMBOLS)))
    assert getattr(encoder, "__self__", None).__class__ is Pieces


def test_one_that_joins_genes_is_used_cell_by_cell():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["CD79A CD79B MS4A1 HLA-DRA"] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    words, cells_CR = words_of(tokenizer=tokenizer), np.array([[0, 1, 2, 3], [4, 5, 0, 1]], np.int32)
    assert not same(
        Pieces(words).encode(cells_CR), encode_one_by_one(words, cells_CR)
    )  # genes did grow together
    assert same(block_encoder(words, cells_CR[1:])(cells_CR), encode_one_by_one(words, cells_CR))


def test_added_tokens_over_two_genes_are_kept_whole():
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens(["CD74 LYZ"])
    words, cells_CR = words_of(tokenizer=tokenizer), np.array([[0, 4, 5, 1]], np.int32)
    whole = encode_one_by_one(words, cells_CR)
    assert len(tiny_tokenizer()) in whole.ids_N  # the added one
    assert same(block_encoder(words, np.array([[0, 1]], np.int32))(cells_CR), whole)


def test_a_tokenizer_that_marks_the_beginning_is_found_out():
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.backend_tokenizer.normalizer = normalizers.Prepend("_")
    words, cells_CR = words_of(tokenizer=tokenizer), ranked(3, len(ODD))
    assert not Pieces(words).agrees(cells_CR)
    assert same(block_encoder(words, cells_CR)(cells_CR), encode_one_by_one(words, cells_CR))


def test_cells_that_cannot_be_encoded_raise_as_they_do_whole():
    empty_CR = np.array([[0, 1], [-1, -1]], np.int32)
    for words, cells_CR in ((words_of(), empty_CR), (words_of(limit=5), empty_CR[:1])):
        for encoder in (Pieces(words).encode, lambda ranked_CR, w=words: encode_one_by_one(w, ranked_CR)):
            with pytest.raises(ScxError, match="no genes that fit"):
                encoder(cells_CR)


@pytest.mark.skipif(
    not (PYTHIA.exists() and REAL.exists()), reason="Pythia's tokenizer or cells are not here"
)
@pytest.mark.parametrize("limit", [None, 300])
def test_real_cells_under_pythia(limit):
    tokenizer, table = PreTrainedTokenizerFast(tokenizer_file=str(PYTHIA)), open_cells(REAL)
    rows = np.arange(0, table.n_cells, table.n_cells // 60)
    cells_CR = rank_matrix(table.rows(rows), rows, 200, 42)
    words = words_of(symbols=table.symbols, tokenizer=tokenizer, limit=limit)
    encoder = block_encoder(words, cells_CR[:4])
    assert encoder.__self__.__class__ is Pieces
    assert same(encoder(cells_CR), encode_one_by_one(words, cells_CR))


def test_the_prompt_is_parted_where_that_gives_the_same_ids():
    edges = _edges(words_of("A few words of {organism}: {cell_sentence}.\nThe answer:"))
    assert edges.head and edges.left == " " and edges.right == "." and edges.rest
    words = words_of("A few words: {cell_sentence}. The answer:")
    joining = copy.deepcopy(words.tokenizer)
    joining.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    joining.backend_tokenizer.normalizer = normalizers.Prepend("B2M")  # each part would begin with it
    whole = _edges(words._replace(tokenizer=joining))
    assert (whole.head, whole.rest) == ([], [])
    assert (whole.left, whole.right) == ("A few words: ", ". The answer:")

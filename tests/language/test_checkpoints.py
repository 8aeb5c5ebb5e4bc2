"""Released checkpoints are read with the text that they were trained on, whatever their files do not say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoTokenizer

from scx_core.cells import CellTable, open_cells
from scx_core.errors import ScxError
from scx_core.language import load_language
from scx_core.language.contracts import CONTRACTS, contract_of
from scx_core.sentences import answer_ids, encode, gene_sentences, prompts
from scx_core.sentences.pieces import Wording, block_encoder
from scx_core.sentences.rank import rank_matrix
from tests.language.checkpoints import DATA, GEMMA, PYTHIA, PYTHIA_TOKENIZER, gemma_folder, pythia_folder

needs_templates = pytest.mark.skipif(
    "c2s-1" not in prompts(), reason="cell2sentence is not installed (pip install --no-deps cell2sentence)"
)
needs_tokenizer = pytest.mark.skipif(not PYTHIA_TOKENIZER.is_file(), reason="no shared tokenizer")


@pytest.fixture(scope="module")
def cells() -> CellTable:
    return open_cells("embedded")


@pytest.fixture(scope="module")
def gemma(tmp_path_factory, cells) -> Path:
    texts = [" ".join(genes) for genes in gene_sentences(cells, range(200), 100, 1)]
    words = (
        "The Homo sapiens cell type is: natural killer cell, B cell, classical monocyte. Genes by expression"
    )
    return gemma_folder(tmp_path_factory.mktemp("gemma"), texts + [words] * 60)


@pytest.fixture(scope="module")
def pythia(tmp_path_factory) -> dict[str, Path]:
    if not PYTHIA_TOKENIZER.is_file():
        pytest.skip("no shared tokenizer")
    folder = tmp_path_factory.mktemp("pythia")
    return {name: pythia_folder(folder, name) for name in PYTHIA}


def templates() -> list[str]:
    """The package's own templates, read here once more and by no code of ours."""
    package = Path(importlib.util.find_spec("cell2sentence").origin).parent
    found = json.loads((package / "prompts" / "single_cell_cell_type_prediction_prompts.json").read_text())
    return found["model_input"]


@needs_templates
@pytest.mark.parametrize("name", [*PYTHIA, GEMMA])
def test_ids_are_those_of_the_packages_template_and_the_plain_tokenizer(name, request, cells):
    folder = request.getfixturevalue("gemma") if name == GEMMA else request.getfixturevalue("pythia")[name]
    lm = load_language(folder)
    asked = lm.sentence_config.n_genes
    assert asked == (1000 if name == GEMMA else 200)
    genes = gene_sentences(cells, [3], asked, 42)[0]
    ours = encode(lm.tokenizer, lm.prompt, genes, organism="Homo sapiens", num_genes=asked)
    text = templates()[0].format(num_genes=asked, organism="Homo sapiens", cell_sentence=" ".join(genes))
    assert list(ours.ids) == AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    assert (ours.ids[0] == lm.tokenizer.bos_token_id) == (name == GEMMA)
    assert lm.bos_id == (2 if name == GEMMA else None)


@needs_templates
@pytest.mark.parametrize("name", [PYTHIA[0], GEMMA])
@pytest.mark.parametrize("file", ["cells/kang2018_pbmc_ifnb.h5ad", "cells/zilionis2019_nsclc.h5ad"])
def test_every_gene_keeps_its_span(name, file, request):
    if not (DATA / file).is_file():
        pytest.skip("no shared data")
    folder = request.getfixturevalue("gemma") if name == GEMMA else request.getfixturevalue("pythia")[name]
    lm, table = load_language(folder), open_cells(DATA / file)
    for start in range(0, table.n_genes, 600):
        genes = [str(symbol) for symbol in table.symbols[start : start + 600]]
        cell = encode(lm.tokenizer, lm.prompt, genes, num_genes=600)
        read = ["".join(lm.tokenizer.decode(list(cell.ids[s.start : s.end])).split()) for s in cell.spans]
        assert read == ["".join(gene.split()) for gene in genes]
        assert all(a.end <= b.start for a, b in zip(cell.spans, cell.spans[1:], strict=False))


@needs_templates
def test_blocks_of_cells_have_the_token_of_beginning_too(gemma, cells):
    lm = load_language(gemma)
    ranked_CR = rank_matrix(cells.rows(range(40)), np.arange(40), 50, 42)
    words = Wording(lm.tokenizer, lm.prompt, cells.symbols, cells.organism, 50, 2000)
    block = block_encoder(words, ranked_CR[:5])(ranked_CR)
    for row in (0, 7, 39):
        genes = [str(symbol) for symbol in cells.symbols[ranked_CR[row]]]
        alone = encode(lm.tokenizer, lm.prompt, genes, organism=cells.organism, num_genes=50, max_tokens=2000)
        assert block.ids_N[block.start[row] : block.start[row + 1]].tolist() == list(alone.ids)


def test_without_the_templates_nothing_is_read(monkeypatch, tmp_path):
    module = sys.modules["scx_core.sentences.prompts"]  # a function of the package bears the same name
    monkeypatch.setattr(module, "_cell2sentence_prompts", dict)
    lm = load_language("embedded")
    folder = pythia_folder(tmp_path, PYTHIA[0], lm.tokenizer)
    with pytest.raises(ScxError, match="not installed") as error:
        load_language(folder)
    assert "pip install --no-deps cell2sentence" in error.value.remedy and "licence" in error.value.remedy
    own = load_language(folder, prompt="{organism}: {cell_sentence}. This is:", n_genes=30)
    assert own.prompt.template.startswith("{organism}: ") and own.sentence_config.n_genes == 30


@pytest.mark.parametrize(
    "name", ["C2S-Pythia-410m-cell-type-conditioned-cell-generation", "my-c2s-cell-generation"]
)
def test_a_checkpoint_that_writes_cells_is_refused(name):
    with pytest.raises(ScxError, match="writes cells"):
        contract_of(f"/models/{name}", SimpleNamespace(model_type="gpt_neox"))


def test_checkpoints_are_recognised_by_id_folder_and_cache():
    config = SimpleNamespace(model_type="gpt_neox", num_hidden_layers=24, hidden_size=1024)
    name = PYTHIA[0]
    cached = f"/cache/models--vandijklab--{name}/snapshots/0123abc"
    for source in (f"vandijklab/{name}", f"/models/{name}", f"/models/{name.lower()}", cached):
        assert contract_of(source, config).hub_id == f"vandijklab/{name}"
    renamed = SimpleNamespace(**vars(config), _name_or_path=f"vandijklab/{name}")
    assert contract_of("/models/heart", renamed).checkpoint == name
    assert contract_of("EleutherAI/pythia-410m", config) is None
    small = contract_of(f"/models/{name}", SimpleNamespace(**{**vars(config), "hidden_size": 16}))
    assert (
        small.prompt == "c2s-1" and not small.licence and small.evidence.startswith("known by its name alone")
    )
    assert contract_of(f"/models/{name}", config).licence
    other = contract_of("/models/c2s-heart-finetuned", config)
    assert other.prompt == "c2s-1" and "not in the table" in other.evidence


def test_the_table_is_whole():
    assert len({one.checkpoint for one in CONTRACTS}) == len(CONTRACTS)
    for one in CONTRACTS:
        assert one.evidence and one.fewest <= one.n_genes <= one.most and one.context >= 2048


def test_another_models_tokenizer_is_an_error(tmp_path, gemma):
    lm = load_language("embedded")
    folder = pythia_folder(tmp_path, "a-model", lm.tokenizer)
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == len(lm.tokenizer)
    small = json.loads((folder / "tokenizer.json").read_text())
    small["model"]["vocab"] = dict(list(small["model"]["vocab"].items())[:300])
    small["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(small))
    with pytest.raises(ScxError, match="do not belong together"):
        load_language(folder)


def test_a_label_that_spells_a_control_token_stays_text(gemma):
    tokenizer = AutoTokenizer.from_pretrained(gemma)
    control = tokenizer.convert_tokens_to_ids("<ctrl100>")
    assert answer_ids(tokenizer, "B cell", "", "<ctrl100>")[-1] == control
    assert answer_ids(tokenizer, "B cell", "", ".<ctrl100>")[:-1] == answer_ids(tokenizer, "B cell", "")
    assert control not in answer_ids(tokenizer, "<ctrl100>", "")

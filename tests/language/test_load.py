"""Loading: both block forms, and that each mistake is one clear line."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from scx_core.errors import ScxError
from scx_core.language import load_language, pick_device
from tests.tiny import LABELS, N_GENES, save_tiny, tiny_model


@pytest.fixture
def folder(tmp_path):
    return save_tiny(tmp_path / "model")


def change_config(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def failing(source, words: str, **options) -> None:
    """Loading raises a ScxError of one line with these words."""
    with pytest.raises(ScxError, match=words) as caught:
        load_language(source, device="cpu", **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("parallel", [True, False])
def test_facts_and_settings(tmp_path, parallel):
    lm = load_language(save_tiny(tmp_path, parallel=parallel), device="cpu")
    assert lm.facts.residual == ("parallel" if parallel else "sequential")
    assert (lm.facts.n_layers, lm.facts.width, lm.facts.n_heads, lm.facts.head_width) == (2, 16, 2, 8)
    assert lm.labels == list(LABELS)
    assert (lm.name, lm.sentence_config.n_genes, lm.prompt.lead) == ("tiny", N_GENES, " ")
    assert lm.dtype == torch.float32
    assert not lm.model.training and not any(p.requires_grad for p in lm.model.parameters())
    assert lm.pad_id == lm.eos_id == 0


def test_weights_are_those_that_were_saved(folder):
    saved, loaded = tiny_model().state_dict(), load_language(folder, dtype="float64").model.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)


def test_fingerprint_is_of_the_content(folder, tmp_path):
    first = load_language(folder).fingerprint
    assert load_language(save_tiny(tmp_path / "again")).fingerprint == first
    assert load_language(save_tiny(tmp_path / "other", seed=1)).fingerprint != first


def test_a_model_without_settings_gets_the_defaults(folder):
    (folder / "scx.json").unlink()
    lm = load_language(folder, device="cpu")
    assert (lm.labels, lm.sentence_config.n_genes, lm.name) == ([], 200, "model")


def test_no_such_folder(tmp_path):
    failing(tmp_path / "nowhere", "no model folder")
    failing("./nowhere", "no model folder")
    (tmp_path / "file").write_text("x")
    failing(tmp_path / "file", "no model folder")


def test_the_folder_of_a_run_names_the_model_in_it(tmp_path):
    save_tiny(tmp_path / "runs" / "build-001" / "model")
    failing(tmp_path / "runs" / "build-001", "its model is .*build-001/model")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    failing(folder, f"has no {name}")


def test_pickled_weights_are_refused(folder):
    state = tiny_model().state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    failing(folder, "no .safetensors weights")


def test_an_unknown_family_is_named(folder):
    change_config(folder, model_type="bloom")
    failing(folder, "family 'bloom'")


def test_a_family_that_transformers_does_not_know_is_named(folder):
    change_config(folder, model_type="nosuch", auto_map={"AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')")
    failing(folder, "could not be loaded")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "scx.json"])
def test_broken_json_is_named(folder, name):
    (folder / name).write_text("{")
    failing(folder, "")


def test_broken_weights_are_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    failing(folder, "could not be loaded")
    path.write_bytes(b"not safetensors at all")
    failing(folder, "could not be loaded")


def test_weights_of_another_size_are_named(folder):
    change_config(folder, intermediate_size=32)
    failing(folder, "could not be loaded")


def test_missing_weights_are_named_and_not_drawn_at_random(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    lost = next(name for name in tensors if "dense_4h_to_h.weight" in name)
    save_file({name: t for name, t in tensors.items() if name != lost}, path, metadata={"format": "pt"})
    failing(folder, "dense_4h_to_h.weight")


def test_a_hub_model_that_cannot_be_reached_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    failing("nobody/no-such-model", "nobody/no-such-model is not on this computer")


def test_precision_and_device_are_checked(folder):
    failing(folder, "'float16' is not a precision", dtype="float16")
    with pytest.raises(ScxError, match="not a device"):
        pick_device("toaster")
    if not torch.cuda.is_available():
        assert pick_device("auto").type == "cpu"
        with pytest.raises(ScxError, match="No CUDA GPU"):
            pick_device("cuda:0")


def test_odd_sentence_settings_are_named(folder):
    path = folder / "scx.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "sentences": {"n_genes": 12, "colour": "red"}}))
    with pytest.raises(ScxError, match="colour"):
        _ = load_language(folder).sentence_config


def test_a_card_beside_the_weights_does_not_change_the_models_identity(tmp_path):
    folder = save_tiny(tmp_path)
    before = load_language(folder, device="cpu").fingerprint
    (folder / "README.md").write_text("a card")
    assert load_language(folder, device="cpu").fingerprint == before

"""Sets on disk: what circuit-tracer reads, what comes back, and what is said about broken folders."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from scx_core.errors import ScxError
from scx_core.transcoders import Transcoder, TranscoderSet, load_set, save_set

F, D = 6, 4


def a_set(kind: str = "jumprelu", skip: bool = False) -> TranscoderSet:
    generator = torch.Generator().manual_seed(3)
    layers = []
    for _ in range(2):
        w = [torch.randn(*shape, generator=generator) for shape in ((F, D), (F,), (F, D), (D,))]
        layers.append(
            Transcoder(
                *w,
                torch.randn(D, D, generator=generator) if skip else None,
                kind=kind,
                k=2 if kind == "topk" else None,
                threshold_F=torch.rand(F, generator=generator) if kind == "jumprelu" else None,
            )
        )
    return TranscoderSet(tuple(layers))


@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_set_comes_back_as_it_was(tmp_path, kind, skip):
    before = a_set(kind, skip)
    saved = save_set(tmp_path / "set", before, {"note": "x"})
    after = load_set(tmp_path / "set")
    x_Td = torch.randn(5, D, generator=torch.Generator().manual_seed(1))
    for old, new in zip(before.layers, after.layers, strict=True):
        assert torch.equal(old(x_Td), new(x_Td)) and (old.kind, old.k) == (new.kind, new.k)
    assert after.meta["note"] == "x" and after.name == "set"
    assert after.fingerprint == saved.fingerprint and len(after.fingerprint) == 64


def test_layout_is_what_circuit_tracer_loads(tmp_path):
    """Its loader takes the gate from config.yaml's activation, else from a threshold in the file, and passes
    every tensor of the file to load_state_dict, so nothing else may be there."""
    save_set(tmp_path, a_set("jumprelu", skip=True), {"model_name": "m"})
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["model_kind"] == "transcoder_set" and "activation" not in config
    assert (config["feature_input_hook"], config["feature_output_hook"]) == ("mlp.hook_in", "hook_mlp_out")
    assert config["transcoders"] == ["layer_0.safetensors", "layer_1.safetensors"]
    shapes = {name: tuple(t.shape) for name, t in load_file(tmp_path / "layer_1.safetensors").items()}
    assert shapes == {
        "W_enc": (F, D),
        "W_dec": (F, D),
        "b_enc": (F,),
        "b_dec": (D,),
        "W_skip": (D, D),
        "activation_function.threshold": (F,),
    }
    save_set(tmp_path, a_set("relu"))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["activation"] == "relu"
    assert set(load_file(tmp_path / "layer_0.safetensors")) == {"W_enc", "W_dec", "b_enc", "b_dec"}


@pytest.mark.parametrize("kind", ["relu", "topk", "jumprelu"])
def test_a_set_without_our_metadata_loads(tmp_path, kind):
    save_set(tmp_path, a_set(kind))
    (tmp_path / "scx.json").unlink()
    assert load_set(tmp_path).kind == kind


def test_same_set_same_bytes_and_the_fingerprint_follows_the_weights(tmp_path):
    one, two = (
        save_set(tmp_path / "a", a_set(), {"name": "n"}),
        save_set(tmp_path / "b", a_set(), {"name": "n"}),
    )
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    (tmp_path / "a" / "README.md").write_text("a card")
    assert load_set(tmp_path / "a").fingerprint == one.fingerprint == two.fingerprint
    layer = a_set().layers[0]
    layer.b_dec_d[0] += 1
    changed = TranscoderSet((layer, a_set().layers[1]))
    assert save_set(tmp_path / "c", changed, {"name": "n"}).fingerprint != one.fingerprint


def test_a_smaller_set_leaves_nothing_of_a_bigger_one(tmp_path):
    save_set(tmp_path, a_set())
    save_set(tmp_path, TranscoderSet(a_set().layers[:1]))
    assert len(load_set(tmp_path).layers) == 1


def _drop_tensor(folder):
    tensors = load_file(folder / "layer_1.safetensors")
    tensors.pop("b_dec")
    save_file(tensors, folder / "layer_1.safetensors")


def _add_tensor(folder):
    tensors = load_file(folder / "layer_1.safetensors") | {"k": torch.ones(1)}
    save_file(tensors, folder / "layer_1.safetensors")


def _narrow(folder):
    tensors = load_file(folder / "layer_1.safetensors")
    for name in ("W_enc", "W_dec", "b_enc", "activation_function.threshold"):
        tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, folder / "layer_1.safetensors")


def _unknown_kind(folder):
    record = json.loads((folder / "scx.json").read_text()) | {"kind": "gelu"}
    (folder / "scx.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "layer_0.safetensors").unlink(), "layer_0.safetensors"),
        (lambda folder: (folder / "layer_1.safetensors").unlink(), "layer_1.safetensors"),
        (lambda folder: (folder / "layer_1.safetensors").write_bytes(b"torn"), "layer_1.safetensors"),
        (lambda folder: (folder / "config.yaml").write_text("a: [b"), "config.yaml"),
        (
            lambda folder: (folder / "config.yaml").write_text("model_kind: cross_layer_transcoder"),
            "config.yaml",
        ),
        (lambda folder: (folder / "scx.json").write_text("{"), "scx.json"),
        (_drop_tensor, "b_dec"),
        (_add_tensor, "unknown: k"),
        (_narrow, "Layer 1"),
        (_unknown_kind, "gelu"),
    ],
)
def test_a_broken_folder_is_refused_by_name(tmp_path, damage, named):
    save_set(tmp_path, a_set())
    damage(tmp_path)
    with pytest.raises(ScxError, match=named):
        load_set(tmp_path)


def test_an_absent_folder_is_refused(tmp_path):
    with pytest.raises(ScxError, match="no transcoder folder"):
        load_set(tmp_path / "nowhere")
    with pytest.raises(ScxError, match="layer_0"):
        load_set(tmp_path)

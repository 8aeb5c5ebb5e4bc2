"""Sets in the layouts of other tools: they come back bit for bit; what is wrong with a folder is named."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from scx_core.errors import ScxError
from scx_core.transcoders import load_set, save_set
from scx_core.transcoders.layouts import LAYOUTS, detect, export_set, import_set
from scx_core.transcoders.layouts.parts import with_thresholds
from tests.transcoders.layout_sets import inputs, random_set, same

HOLDS = [("circuit-tracer", "relu"), ("circuit-tracer", "jumprelu"), ("sparsify", "relu"),
         ("sparsify", "topk"), ("saelens", "relu"), ("saelens", "jumprelu")]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    where=st.sampled_from(HOLDS),
    skip=st.booleans(),
    layers=st.integers(1, 12),
    F=st.integers(3, 9),
    d=st.integers(1, 5),
    k=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
def test_what_a_layout_holds_comes_back_bit_for_bit(where, skip, layers, F, d, k, seed):
    layout, kind = where
    before = random_set(kind, skip, layers, F, d, k, seed)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "set"
        exported = export_set(before, folder, layout)
        assert detect(folder) == layout
        assert same(before, exported) and same(before, load_set(folder))
        (folder / "scx.json").unlink()  # as if another tool had written it
        bare = load_set(folder)
        assert same(before, bare) and bare.fingerprint == exported.fingerprint
        assert bare.meta.get("model_name", "a model") == "a model" and bare.meta["layout"] == layout
        assert same(before, save_set(Path(root) / "ours", bare))


def test_the_record_says_where_an_export_comes_from(tmp_path):
    ours = save_set(tmp_path / "ours", random_set("relu", True), {"provenance": {"seed": 3}})
    for layout in LAYOUTS:
        exported = export_set(ours, tmp_path / layout, layout)
        assert exported.meta["exported_from"] == ours.fingerprint
        assert exported.meta["provenance"] == {"seed": 3} and exported.meta["layout"] == layout
        files = {file.suffix for file in (tmp_path / layout).rglob("*") if file.is_file()}
        assert files <= {".json", ".yaml", ".safetensors"}


def test_saelens_has_its_encoder_transposed_and_its_architecture_said(tmp_path):
    names = {("relu", False): "transcoder", ("relu", True): "skip_transcoder"}
    names |= {("jumprelu", False): "jumprelu_transcoder", ("jumprelu", True): "jumprelu_skip_transcoder"}
    for (kind, skip), name in names.items():
        one = random_set(kind, skip)
        export_set(one, tmp_path / name, "saelens")
        cfg = json.loads((tmp_path / name / "layer_1" / "cfg.json").read_text())
        assert cfg["architecture"] == name and (cfg["d_in"], cfg["d_sae"], cfg["d_out"]) == (4, 6, 4)
        assert cfg["apply_b_dec_to_input"] is False and cfg["normalize_activations"] == "none"
        assert cfg["metadata"]["hook_name"] == "blocks.1.mlp.hook_in"
        weights = load_file(tmp_path / name / "layer_1" / "sae_weights.safetensors")
        assert torch.equal(weights["W_enc"], one.layers[1].W_enc_Fd.T)


def test_relu_is_top_k_of_everything_in_sparsify(tmp_path):
    export_set(random_set("relu", False, F=6), tmp_path / "set", "sparsify")
    cfg = json.loads((tmp_path / "set" / "layers.0.mlp" / "cfg.json").read_text())
    assert (cfg["k"], cfg["num_latents"], cfg["transcode"]) == (6, 6, True)
    every = random_set("topk", False, F=6, k=9)
    back = export_set(every, tmp_path / "every", "circuit-tracer")
    x_Td = inputs(every)[0]
    assert back.kind == "relu" and torch.equal(back.layers[0](x_Td), every.layers[0](x_Td))


@pytest.mark.parametrize("layout", ["circuit-tracer", "saelens"])
def test_top_k_gets_thresholds_where_there_is_no_k(tmp_path, layout):
    top = random_set("topk", True, F=40, d=8, k=5)
    top.meta["metrics"] = {"ce_recovered": 0.9}
    with pytest.raises(ScxError, match="calibrate"):
        export_set(top, tmp_path / "set", layout)
    assert not (tmp_path / "set").exists()
    made = export_set(top, tmp_path / "set", layout, inputs=inputs(top))
    assert made.kind == "jumprelu" and made.meta["calibrated_from"] == {"kind": "topk", "k": 5}
    assert "metrics" not in made.meta, "they were measured with TopK"
    for coder, x_Td in zip(made.layers, inputs(top), strict=True):
        assert (coder.encode(x_Td) > 0).sum() == 5 * len(x_Td)
    with pytest.raises(ScxError, match="1 layers, expected 2"):
        export_set(top, tmp_path / "other", layout, inputs=inputs(top)[:1])


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(1, 60), k=st.integers(1, 12), chunk=st.integers(1, 70), seed=st.integers(0, 99))
def test_calibration_in_parts_lets_exactly_k_a_token_through(tokens, k, chunk, seed):
    from scx_core.transcoders.layouts import parts

    coder = random_set("topk", False, layers=1, F=12, d=6, k=k, seed=seed).layers[0]
    x_Td = inputs(random_set("topk", False, layers=1, F=12, d=6), tokens, seed)[0]
    positive = int((coder.pre(x_Td) > 0).sum())
    before, parts.CHUNK = parts.CHUNK, chunk
    try:
        made = with_thresholds(coder, x_Td)
    finally:
        parts.CHUNK = before
    assert int((made.encode(x_Td) > 0).sum()) == min(k * tokens, positive)


def test_what_a_layout_cannot_hold_is_refused(tmp_path):
    jump = random_set("jumprelu", False)
    with pytest.raises(ScxError, match=r"sparsify cannot hold.*circuit-tracer, saelens"):
        export_set(jump, tmp_path / "set", "sparsify")
    jump.layers[1].threshold_F[0] = -0.5
    with pytest.raises(ScxError, match="Layer 1 has thresholds below 0"):
        export_set(jump, tmp_path / "set", "saelens")
    jump.layers[1].b_dec_d[0] = float("nan")
    with pytest.raises(ScxError, match="Layer 1: b_dec"):
        export_set(jump, tmp_path / "set", "circuit-tracer")
    with pytest.raises(ScxError, match=r"pickle.*Known: circuit-tracer"):
        export_set(jump, tmp_path / "set", "pickle")
    assert list(tmp_path.iterdir()) == [], "nothing is left of an export that was refused"
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("kept")
    with pytest.raises(ScxError, match="in use"):
        export_set(random_set("relu", False), tmp_path / "set", "saelens")
    assert (tmp_path / "set" / "mine.txt").read_text() == "kept"


# hostile and broken folders ------------------------------------------------------------------------------


def _weights(folder: Path, layer: int) -> Path:
    names = (f"layer_{layer}.safetensors", f"layers.{layer}.mlp/sae.safetensors",
             f"layer_{layer}/sae_weights.safetensors")  # fmt: skip
    return next(folder / name for name in names if (folder / name).exists())


def _changed(change):
    def damage(folder: Path) -> None:
        path = _weights(folder, 1)
        tensors = load_file(path)
        change(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)

    return damage


def _put(name, make):
    return _changed(lambda tensors: tensors.update({name: make(tensors[name])}))


def _nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor[0] = float("nan")
    return tensor


DAMAGES = {
    "torn": (lambda folder: _weights(folder, 1).write_bytes(b"torn"), ["1", "could not be read"]),
    "huge header": (lambda folder: _weights(folder, 1).write_bytes(b"\xff" * 64), ["could not be read"]),
    "gone": (lambda folder: _weights(folder, 0).unlink(), ["0"]),
    "narrow": (_put("b_dec", lambda tensor: tensor[:-1]), ["b_dec has the shape (3,), expected (4,)"]),
    "flat": (_put("W_dec", lambda tensor: tensor.flatten()), ["W_dec has the shape (24,)"]),
    "nan": (_put("W_dec", _nan), ["W_dec has", "not numbers"]),
    "infinite": (_put("b_dec", lambda tensor: tensor / 0), ["b_dec has", "not numbers"]),
    "whole numbers": (_put("W_dec", lambda tensor: tensor.int()), ["W_dec is of the type torch.int32"]),
    "too much": (_changed(lambda tensors: tensors.update(k=torch.ones(1))), ["unknown: k"]),
    "too little": (_changed(lambda tensors: tensors.pop("b_dec")), ["lacks b_dec"]),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_broken_weights_are_refused_by_name(tmp_path, layout, damage):
    export_set(random_set("relu", True), tmp_path / "set", layout)
    make, words = DAMAGES[damage]
    make(tmp_path / "set")
    with pytest.raises(ScxError) as refused:
        load_set(tmp_path / "set")
    assert all(word in str(refused.value) for word in words), refused.value


def _settings(file: str, **changes):
    def damage(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def _yaml(text: str):
    return lambda folder: (folder / "config.yaml").write_text(text)


def _twice(folder: Path) -> None:
    shutil.copytree(folder / "layer_1", folder / "copy_1")


def _another_tool(folder: Path) -> None:
    shutil.copytree(folder / "layer_1", folder / "x")
    (folder / "x" / "sae_weights.safetensors").rename(folder / "x" / "sae.safetensors")


SPARSE, LENS = "layers.1.mlp/cfg.json", "layer_1/cfg.json"
WRONG = [
    ("circuit-tracer", _yaml("!!python/object/apply:os.system ['touch owned']"), "config.yaml is not valid"),
    ("circuit-tracer", _yaml("[" * 3000), "config.yaml is not valid"),
    ("circuit-tracer", _yaml("- a"), "config.yaml does not describe"),
    ("circuit-tracer", _yaml("transcoders: layer_0.safetensors"), "not a list"),
    ("circuit-tracer", _yaml("transcoders: [../../secret.safetensors]"), "../../secret"),
    ("circuit-tracer", _yaml("transcoders: [/etc/passwd]"), "/etc/passwd"),
    ("circuit-tracer", _yaml("transcoders: [hf://a/b/layer_0.safetensors]"), "hf://a/b"),
    ("circuit-tracer", _yaml("transcoders: [layer_7.safetensors]"), "layer_7.safetensors"),
    ("circuit-tracer", _yaml("feature_input_hook: hook_resid_mid"), "feature_input_hook"),
    ("circuit-tracer", _settings("scx.json", n_layers=3), "3"),
    ("circuit-tracer", _settings("scx.json", kind="jumprelu"), "layer_0.safetensors has none"),
    ("circuit-tracer", _settings("scx.json", kind=["relu"]), "['relu']"),
    ("circuit-tracer", _settings("scx.json", kind="topk", k="many"), "k is 'many'"),
    ("circuit-tracer", lambda folder: (folder / "scx.json").write_text("[]"), "scx.json holds list"),
    ("sparsify", _settings(SPARSE, transcode=False), "transcode"),
    ("sparsify", _settings(SPARSE, activation="groupmax"), "groupmax"),
    ("sparsify", _settings(SPARSE, k=0), "k is 0"),
    ("sparsify", _settings(SPARSE, k=3), "Layer 1"),
    ("sparsify", _settings(SPARSE, skip_connection=False), "skip_connection"),
    ("sparsify", lambda folder: (folder / SPARSE).unlink(), SPARSE),
    ("sparsify", lambda folder: (folder / "layers.1.mlp").rename(folder / "layers.4.mlp"), "layers.1.mlp"),
    ("sparsify", lambda folder: (folder / "layers.1.mlp").rename(folder / "layers.999999.mlp"), "layers.6.m"),
    ("sparsify", lambda folder: shutil.copytree(folder / "layers.1.mlp", folder / "h.1.mlp"), "both of"),
    ("saelens", _settings(LENS, architecture="gated"), "gated"),
    ("saelens", _settings(LENS, architecture={}), "architecture"),
    ("saelens", _settings(LENS, architecture="transcoder"), "unknown: W_skip"),
    ("saelens", _settings(LENS, normalize_activations="layer_norm"), "layer_norm"),
    ("saelens", _settings(LENS, apply_b_dec_to_input=True), "apply_b_dec_to_input"),
    ("saelens", _settings(LENS, d_sae=7), "d_sae is 7, expected 6"),
    ("saelens", _settings(LENS, metadata={"hook_name": "blocks.1.hook_resid_pre"}), "hook_resid_pre"),
    ("saelens", _settings(LENS, metadata={"hook_name": "blocks.5.mlp.hook_in"}), "missing: layer_1"),
    ("saelens", lambda folder: (folder / LENS).unlink(), LENS),
    ("saelens", _twice, "both of layer 1"),
    ("saelens", _another_tool, "sparsify and saelens"),
]


@pytest.mark.parametrize(("layout", "damage", "named"), WRONG)
def test_wrong_settings_are_refused_by_name(tmp_path, monkeypatch, layout, damage, named):
    monkeypatch.chdir(tmp_path)
    export_set(random_set("relu", True), tmp_path / "set", layout)
    damage(tmp_path / "set")
    with pytest.raises(ScxError) as refused:
        load_set(tmp_path / "set")
    assert named in str(refused.value), refused.value
    assert not (tmp_path / "owned").exists()


def test_one_layer_alone_and_pickles_are_refused_with_what_to_do(tmp_path):
    export_set(random_set("topk", False), tmp_path / "sparse", "sparsify")
    export_set(random_set("relu", False), tmp_path / "lens", "saelens")
    for one in ("sparse/layers.0.mlp", "lens/layer_0"):
        with pytest.raises(ScxError, match="folder above"):
            import_set(tmp_path / one)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "sae.pt").write_bytes(b"\x80\x04")
    with pytest.raises(ScxError, match=r"safetensors only: sae\.pt"):
        import_set(tmp_path / "old")


def test_names_of_other_tools_are_understood(tmp_path):
    """GPT-2's blocks in sparsify, folders without hooks in SAELens, half precision anywhere."""
    one = random_set("topk", False)
    export_set(one, tmp_path / "sparse", "sparsify")
    for layer in (0, 1):
        (tmp_path / "sparse" / f"layers.{layer}.mlp").rename(
            tmp_path / "sparse" / f"transformer.h.{layer}.mlp"
        )
    assert same(one, import_set(tmp_path / "sparse"))
    two = random_set("jumprelu", False, layers=11)
    export_set(two, tmp_path / "lens", "saelens")
    for layer in range(11):
        _settings(f"layer_{layer}/cfg.json", metadata={})(tmp_path / "lens")
    assert same(two, import_set(tmp_path / "lens")), "layer_10 comes after layer_9"
    path = tmp_path / "lens" / "layer_3" / "sae_weights.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    read = import_set(tmp_path / "lens").layers[3].W_dec_Fd
    assert read.dtype == torch.float32 and torch.equal(read, two.layers[3].W_dec_Fd.bfloat16().float())


def test_the_folder_of_a_run_names_the_set_in_it(tmp_path):
    save_set(tmp_path / "first" / "transcoders", random_set("relu", False))
    with pytest.raises(ScxError, match=r"its set is .*first/transcoders"):
        load_set(tmp_path / "first")

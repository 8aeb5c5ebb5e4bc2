"""Checkpoints of the hub: fetched once with progress, used as they are here, and each obstacle one line."""

from __future__ import annotations

from collections import namedtuple

import pytest

import scx_core as scx
from scx_core.errors import ScxError
from scx_core.language import hub, load_language
from tests.builders.hub import COMMIT, NAME, fake_hub, use_hub
from tests.tiny import save_tiny


@pytest.fixture
def client(tmp_path, monkeypatch):
    """The hub's client with an empty cache; call it with an address to ask there."""
    return lambda address, offline=False: use_hub(monkeypatch, address, tmp_path / "cache", offline)


def refused(words: str, name: str = NAME) -> str:
    with pytest.raises(ScxError, match=words) as caught:
        load_language(name, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("lab/tiny-cells", True),
        ("embedded", False),
        ("/data/model", False),
        ("./a/b", False),
        ("a/b/c", False),
    ],
)
def test_a_hub_id_is_an_owner_and_a_name(source, is_one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_hub_id(source) is is_one
    (tmp_path / "lab" / "tiny-cells").mkdir(parents=True)
    assert not hub.is_hub_id("lab/tiny-cells"), "a folder of this name comes first"


def test_a_checkpoint_is_fetched_once_with_its_progress_and_then_used_without_a_question(client, tmp_path):
    folder = save_tiny(tmp_path / "model")
    (folder / "scx.json").unlink()
    told: list[tuple[int, int, str]] = []
    with fake_hub(folder) as there:
        client(there.address)
        assert hub.checkpoint_folder(NAME) is None
        lm = load_language(NAME, device="cpu", progress=lambda *said: told.append(said))
        assert lm.fingerprint == f"hub:{COMMIT}" and lm.source == NAME
        assert told[-1][0] == told[-1][1] == 1 and "MB from the hub" in told[-1][2]
        assert sum("GET" in one and "model.safetensors" in one for one in there.asked) == 1
        assert hub.checkpoint_folder(NAME).name == COMMIT
        there.asked.clear()
        assert scx.pp.load_model(NAME, device="cpu").fingerprint == lm.fingerprint
        assert there.asked == []


def test_a_notebook_shows_how_far_the_download_is(client, tmp_path, capsys):
    with fake_hub(save_tiny(tmp_path / "model")) as there:
        client(there.address)
        scx.pp.load_model(NAME, device="cpu")
    assert "1 MB from the hub" in capsys.readouterr().err


def test_what_arrived_is_counted_in_bytes(client, tmp_path):
    folder = save_tiny(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "other.safetensors").write_bytes(whole[::-1])
    (folder / "twin.safetensors").write_bytes(whole)  # arrives once
    counted = []

    class Counter(hub._Bytes):
        def add(self, count):
            super().add(count)
            counted.append((self.done, self.total))

    with fake_hub(folder) as there, pytest.MonkeyPatch.context() as patch:
        client(there.address)
        patch.setattr(hub, "_Bytes", Counter)
        found = hub.fetch(NAME)
    size = sum(path.stat().st_size for path in found.iterdir())
    assert counted[-1] == (size, size) and len(counted) > 2


def test_half_a_checkpoint_is_not_taken_for_a_whole_one(client, tmp_path):
    folder = save_tiny(tmp_path / "model")
    with fake_hub(folder) as there:
        client(there.address)
        found = hub.fetch(NAME)
        assert hub.checkpoint_folder(NAME) == found
        (found / "model.safetensors").rename(found / "model-00001-of-00002.safetensors")
        assert hub.checkpoint_folder(NAME) is None
        (found / hub.INDEX).write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
        assert hub.checkpoint_folder(NAME) == found
        (found / hub.INDEX).write_text('{"weight_map": {"a": "model-00002-of-00002.safetensors"}}')
        assert hub.checkpoint_folder(NAME) is None


def test_a_gated_checkpoint_says_where_its_terms_are_and_how_to_sign_in(client, tmp_path):
    with fake_hub(save_tiny(tmp_path / "model"), gated=True) as there:
        client(there.address)
        said = refused("is gated")
    assert f"huggingface.co/{NAME}" in said and "hf auth login" in said


def test_a_name_that_the_hub_does_not_know_is_told(client, tmp_path):
    with fake_hub(save_tiny(tmp_path / "model")) as there:
        client(there.address)
        assert "spelling" in refused("no checkpoint nobody/nothing", "nobody/nothing")


def test_without_a_network_the_way_by_hand_is_told(client):
    client("http://127.0.0.1:9")  # nobody listens there
    assert "hf download" in refused("cannot be reached from here")
    client("http://127.0.0.1:9", offline=True)
    said = refused("HF_HUB_OFFLINE=1 forbids")
    assert f"hf download {NAME} --local-dir" in said


def test_pickled_weights_alone_and_a_full_disk_are_told_before_the_download(client, tmp_path, monkeypatch):
    folder = save_tiny(tmp_path / "model")
    with fake_hub(folder) as there:
        client(there.address)
        space = namedtuple("space", "total used free")
        monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: space(10, 10, 10))
        with pytest.raises(ScxError, match="MB left.* HF_HOME"):
            hub.fetch(NAME)
        assert not any("GET" in one and "safetensors" in one for one in there.asked)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with fake_hub(folder) as there:
        client(there.address)
        monkeypatch.undo()
        client(there.address)
        refused("no .safetensors weights")

"""The Pareto table on a tiny model: made in pieces, resumed, tuned runs go on from untuned ones."""

import os
import signal
from dataclasses import replace
from importlib import import_module

import pytest

from benchmarks.pareto import KINDS, ParetoCell, ParetoConfig, bench_pareto, coder_of
from scx_core.errors import ScxError
from scx_core.language import load_language
from scx_core.runs import RunFolder, read_json
from scx_core.training.config import TrainingJob
from tests.tiny import save_tiny, tiny_table

CFG = ParetoConfig(steps=6, finetune_steps=3, kinds="topk,cross-layer", l0="2,4")


def test_cells_and_their_settings():
    assert [cell.name for cell in CFG.cells()] == ["topk-2", "topk-4", "cross-layer-2", "cross-layer-4"]
    assert CFG.cells(["sae:8"]) == [ParetoCell("sae", 8)]
    forms = {kind: coder_of(ParetoCell(kind, 8), skip=True) for kind in KINDS}
    assert {kind: coder.form for kind, coder in forms.items() if coder.form != "transcoder"} == {
        "sae": "sae",
        "cross-layer": "cross-layer",
    }
    assert [kind for kind, coder in forms.items() if coder.controlled] == ["relu", "jumprelu"]
    assert all(coder.wanted == 8 for coder in forms.values())
    assert [kind for kind, coder in forms.items() if not coder.skip] == ["sae"]
    for wrong in ("topk", "topk:0", "mlp:8", "topk:x"):
        with pytest.raises(ScxError, match="no cell"):
            CFG.cells([wrong])


@pytest.mark.skipif(os.name == "nt", reason="stopped with POSIX signals")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stop_while_a_set_is_measured_ends_it_and_the_same_command_goes_on(tmp_path, monkeypatch, when):
    model = save_tiny(tmp_path / "model")
    lm, table, root = load_language(model, device="cpu", dtype="float32"), tiny_table(30), tmp_path / "runs"
    job, cfg = TrainingJob(lm.sentence_config, model=str(model), data="tiny"), replace(CFG, finetune_steps=0)
    training = import_module("scx_core.training.train")  # the package has a function of this name
    measure = training.held_out_metrics

    def stopped(*args):
        if when == "before":
            signal.raise_signal(signal.SIGTERM)
        found = measure(*args)
        if when == "after":
            signal.raise_signal(signal.SIGTERM)
        return found

    monkeypatch.setattr(training, "held_out_metrics", stopped)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        bench_pareto(job, lm, table, root, cfg, ["topk:2", "topk:4"])
    run = RunFolder.open(root / "topk-2")
    assert run.status().state == ("stopped" if when == "before" else "done")
    assert run.latest_checkpoint().step == 6 and not (root / "topk-4").exists()
    monkeypatch.undo()
    made = bench_pareto(job, lm, table, root, cfg, ["topk:2", "topk:4"])
    assert [row["run"] for row in made["pareto"]] == ["topk-2", "topk-4"]


def test_the_table_is_made_in_pieces(tmp_path):
    model = save_tiny(tmp_path / "model")
    lm, table, root = load_language(model, device="cpu", dtype="float32"), tiny_table(30), tmp_path / "runs"
    job = TrainingJob(lm.sentence_config, model=str(model), data="tiny")
    first = bench_pareto(job, lm, table, root, CFG, ["topk:4"])
    assert [row["run"] for row in first["pareto"]] == ["topk-4", "topk-4-tuned"]
    assert first["missing"] == ["topk-2", "cross-layer-2", "cross-layer-4"]
    base, tuned = (RunFolder.open(root / row["run"]) for row in first["pareto"])
    assert tuned.metrics()[: len(base.metrics())] == base.metrics()  # the same training, not another
    assert "tune_kl" in tuned.metrics()[-1]
    before, after = first["pareto"]
    gap = before["ce_transcoder"] - before["ce_orig"]
    assert after["closed"] == pytest.approx((before["ce_transcoder"] - after["ce_transcoder"]) / gap)

    weights = root / "topk-4" / "transcoders" / "layer_0.safetensors"
    when = weights.stat().st_mtime_ns
    again = bench_pareto(job, lm, table, root, CFG, ["topk:4", "cross-layer:2"], tmp_path / "figure")
    assert again["pareto"][:2] == first["pareto"] and weights.stat().st_mtime_ns == when
    assert again["missing"] == ["topk-2", "cross-layer-4"]
    assert {row["kind"] for row in again["pareto"]} == {"topk", "cross-layer"}
    # Sets of a random model "recover" more than all of its loss, which a figure of the loss cannot show.
    assert again["files"] == [] and "to draw" in again["no_figure"]
    assert read_json(root / "topk-4" / "transcoders" / "validation.json")["form"] == "transcoder"
    with pytest.raises(ScxError, match="other settings"):
        bench_pareto(job, lm, table, root, ParetoConfig(steps=7, finetune_steps=3), ["topk:4"])

"""No job mixes devices on a card; and a tensor that any room leaves on the processor would be seen."""

import importlib
import json
import shutil
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._pytree import tree_map_only

from scx_core.cells.cell_table import CellTable
from scx_core.cli import main
from tests.fake_cuda.jobs import JOBS, Desk, JobFailed, card, make_desk, run_job

DTYPES = ("float32", "bfloat16")
# Held in bfloat16 these would only do again what others do.
ONCE = {
    *("train topk skip", "train relu", "train jumprelu", "train saes", "train cross-layer", "train micro"),
    *(
        "train resumed",
        "compare",
        "difference of sets",
        "nulls",
        "redundancy",
        "rivals",
        "stability",
        "types",
    ),
    *("rankings", "conditions", "network", "perturbations", "sets", "transcoders out", "transcoders in"),
    *("build", "prompts", "genes", "ablate"),
}
EARLIER = ("train", "train topk skip")  # whose sets the others read
ACCOUNT = 1e-4


@pytest.fixture(scope="module")
def desks(tmp_path_factory) -> dict[str, Desk]:
    """A round of jobs for each precision that a model is held in, trained once."""
    made = {}
    for dtype in DTYPES:
        made[dtype] = make_desk(tmp_path_factory.mktemp(dtype))
        for name in EARLIER:
            with card(dtype):
                run_job(made[dtype], name)
    return made


CASES = [
    (dtype, name)
    for dtype in DTYPES
    for name in JOBS
    if name not in EARLIER and (dtype == "float32" or name not in ONCE)
]


@pytest.mark.parametrize(("dtype", "name"), CASES)
def test_no_fault_in_any_job(desks, dtype, name):
    with card(dtype) as report:
        run_job(desks[dtype], name)
    assert not report.faults
    found = json.loads((desks[dtype].root / "result.json").read_text())
    if account := found.get("accounting"):
        assert account["max_relative_error"] < ACCOUNT


# Of the path, in its order: each has a plant at least.
PATH = (
    *("cells", "sentences", "language", "transcoders", "training", "validation", "attribution", "circuits"),
    *("atlas", "evidence"),
)
# A function of each room whose result is left on the processor, and a job that needs it. What the cells give are
# no tensors yet: theirs are the first that are made of them, labels and halves of cells.
ROOMS = {
    "cells": ("scx_core.atlas.collect.one_pass._batch", "atlas"),
    "sentences": ("scx_core.training.tokens.TokenTexts.batch", "train relu"),
    "language": ("scx_core.training.trainer_state.mlp_io", "train relu"),
    "metrics": ("scx_core.training.layer_trainer.active", "train relu"),
    "transcoders": ("scx_core.transcoders.module.Transcoder.pre", "validate"),
    "training: first weights": ("scx_core.training.layer_trainer.first_weights", "train relu"),
    "training: selection": ("scx_core.training.layer_trainer.select_tokens", "train topk skip"),
    "training: tuning": ("scx_core.training.finetune.kl_divergence", "train"),
    "validation": ("scx_core.validation.measure.hidden_states", "validate"),
    "attribution: frozen": ("scx_core.attribution.local_replacement_model._freeze_layer", "trace"),
    "attribution: nodes": ("scx_core.attribution.node_selection.largest", "trace"),
    "attribution: heads": ("scx_core.attribution.edge_heads.attn_read", "heads"),
    "circuits": ("scx_core.circuits.trace.target_row", "trace"),
    "circuits: cells": ("scx_core.circuits.trace.target_row", "consensus"),
    "atlas: reading": ("scx_core.atlas.collect.one_pass.mlp_io", "atlas"),
    "atlas: matching": ("scx_core.atlas.match.common_cells.mlp_streams", "match"),
    "atlas: annotate": ("scx_core.atlas.annotate.mlp_streams", "annotate alone"),
    "evidence: knock-outs": ("scx_core.evidence.knockouts.estimates.slopes", "trace estimates"),
    "evidence: interventions": ("scx_core.evidence.interventions.Intervention._gates", "smallest"),
    "evidence: edits": ("scx_core.evidence.feature_edits.mlp_io", "ablate"),
    "build": ("transformers.models.gpt_neox.modeling_gpt_neox.apply_rotary_pos_emb", "build"),
}


def on_the_processor(found):
    """The same with its tensors on the processor."""
    return tree_map_only(torch.Tensor, lambda t: t.cpu(), found)


def find(path: str):
    """Owner and name of a function."""
    parts = path.split(".")
    for n in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise AssertionError(path)


def test_every_room_of_the_path_has_a_plant_and_its_job_passes_without_it():
    assert set(PATH) <= {room.partition(":")[0] for room in ROOMS}
    passed = {name for _, name in CASES} | set(EARLIER)
    assert {job for _, job in ROOMS.values()} <= passed


def test_rows_of_cells_that_are_asked_for_by_a_tensor_of_the_card_are_seen(desks, tmp_path):
    """The way back: numbers of cells that a room has left on the card."""
    whole = CellTable.rows

    def planted(table, indices):
        return whole(table, torch.as_tensor(indices).cuda())

    desk = fresh(desks["float32"], tmp_path)
    with mock.patch.object(CellTable, "rows", planted), card() as report, pytest.raises(TypeError):
        run_job(desk, "validate")
    assert {kind for kind, *_ in report.faults} == {"host"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_tensor_left_on_the_processor_is_seen(desks, room, tmp_path):
    path, job = ROOMS[room]
    owner, name = find(path)
    whole = getattr(owner, name)

    def planted(*args, **options):
        return on_the_processor(whole(*args, **options))

    desk = fresh(desks["float32"], tmp_path)
    with mock.patch.object(owner, name, planted), card() as report, pytest.raises((RuntimeError, TypeError)):
        run_job(desk, job)
    assert {kind for kind, *_ in report.faults} & {"mixed", "host"}


def fresh(desk: Desk, folder) -> Desk:
    """The same cells, model and sets, with an own folder of runs: nothing that was measured is found again."""
    for name in ("cells.h5ad", "model"):
        (folder / name).symlink_to(desk.root / name)
    return desk._replace(root=folder, sets=desk.sets or desk.root / "runs")


def test_a_run_that_is_gone_on_with_gives_the_same_bits(desks, tmp_path):
    """Fused Adam counts on the card; checkpoints are written beside the steps."""
    desk = fresh(desks["float32"], tmp_path)
    with card():
        run_job(desk, "train")
        run = tmp_path / "runs" / "first"
        shutil.copytree(run, tmp_path / "runs" / "again")
        again = tmp_path / "runs" / "again"
        shutil.rmtree(again / "transcoders")
        newest = sorted((again / "checkpoints").glob("*.json"))[-1]
        newest.unlink()
        newest.with_suffix(".safetensors").unlink()
        assert main(["train", "--run", str(again), "--quiet"]) == 0
    for layer in (0, 1):
        one, other = (load_file(path / f"transcoders/layer_{layer}.safetensors") for path in (run, again))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("job", ["trace", "consensus", "validate", "atlas"])
def test_memory_that_does_not_suffice_is_one_line(desks, job, tmp_path):
    """After smaller batches, each of which is said, one line ends it where nothing smaller is left."""
    desk = fresh(desks["float32"], tmp_path)
    with card() as report:
        run_job(desk, job)
    with card(memory=report.peak // 8), pytest.raises(JobFailed) as failed:
        run_job(fresh(desk, tmp_path_of(tmp_path)), job)
    said = str(failed.value).splitlines()[1:]
    last = [line for line in said if "from here on" not in line]
    assert len(last) == 1 and "memory does not suffice" in last[0]


def tmp_path_of(folder):
    """An empty folder beside."""
    (folder / "once more").mkdir()
    return folder / "once more"


def test_a_training_that_does_not_fit_halves_its_step_or_can_be_gone_on_with(desks, tmp_path):
    desk = fresh(desks["float32"], tmp_path)
    with card() as report:
        run_job(desk, "train micro")
    again = fresh(desk, tmp_path_of(tmp_path))
    with card(memory=int(0.8 * report.peak)):
        try:
            run_job(again, "train micro")
        except JobFailed as failed:
            said = str(failed).splitlines()[1:]
            assert len(said) == 1 and "memory" in said[0]
    with card():
        run_job(again, "train resumed")

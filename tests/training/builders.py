"""Tiny trainings in run folders, and single layers with steps of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from scx_core.language import load_language
from scx_core.runs import RunFolder, from_dict
from scx_core.training.config import TrainConfig, TrainingJob, TranscoderConfig
from scx_core.training.layer_trainer import LayerTrainer
from scx_core.training.plan import StepPlan
from scx_core.training.step import LayerReport, TrainingStep
from scx_core.training.train import new_run
from tests.tiny import tiny_table

CODER = TranscoderConfig(expansion=4, k=4)
TRAIN = TrainConfig(
    steps=40,
    cells_per_batch=6,
    warmup=4,
    dead_after=1500,
    held_out=0.2,
    log_every=5,
    evaluate_every=20,
    checkpoint_every=10,
)
KILLED = """
import os, signal, sys
from tests.training.builders import open_job
from scx_core.runs import RunFolder
from scx_core.training import train

def kill_at(done, total, message):
    if message == "training" and done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

run = RunFolder.open(sys.argv[1])
train(run, *open_job(run), kill_at)
"""
T, D = 200, 8
EVEN = torch.ones(T)
CFG, LAYER_TRAIN = TranscoderConfig(expansion=4, k=3), TrainConfig(dead_after=500)


def data(seed: int = 0):
    """Inputs with a mean and a scale far from 0 and 1, and a non-linear function of them."""
    generator = torch.Generator().manual_seed(seed)
    x_Td = 5 + 7 * torch.randn(T, D, generator=generator)
    mix_dd = torch.randn(D, D, generator=generator)
    return x_Td, 30 * torch.nn.functional.gelu((x_Td - 5) @ mix_dd / 7) - 4


def layer_trainer(cfg: TranscoderConfig = CFG, train: TrainConfig = LAYER_TRAIN) -> LayerTrainer:
    fresh = LayerTrainer.from_data(cfg, train, *data(), layer=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in fresh.weights.values():
            tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
    return fresh


def layer_step(
    layer: LayerTrainer, x_Td, y_Td, k: int, weight_T, plan: StepPlan | None = None, cells: int = 1
) -> LayerReport:
    """A step of one layer: its gradients are in its weights then."""
    step = TrainingStep([layer], plan or StepPlan(), cells, len(x_Td))
    return LayerReport(*map(float, step.run([(x_Td, y_Td)], k, weight_T)[0]))


def open_job(run: RunFolder):
    """Model and cells as the run's configuration names them: nothing else is needed to go on."""
    job = from_dict(TrainingJob, run.config)
    return load_language(job.model, device="cpu", dtype="float32"), tiny_table(30)


def start(
    root: Path,
    model: Path,
    coder: TranscoderConfig = CODER,
    config: TrainConfig = TRAIN,
    name: str | None = None,
) -> RunFolder:
    lm = load_language(model, device="cpu", dtype="float32")
    job = TrainingJob(lm.sentence_config, model=str(model), data="tiny", transcoder=coder, train=config)
    return new_run(root, job, lm, tiny_table(30), name)


def weights(transcoders) -> list[torch.Tensor]:
    return [tensor for layer in transcoders.layers for tensor in layer.tensors().values()]


def in_its_own_process(run: RunFolder, kill_after: int = 0) -> None:
    """Train, as the app does, in a new process, which kills itself after a step (0: it goes to its end)."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(run.path), str(kill_after)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if kill_after else 0), done.stderr


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def steady(metrics: list[dict]) -> list[dict]:
    """Records without the numbers that depend on the clock."""
    clock = ("tokens_per_second", "seconds")
    return [{key: value for key, value in record.items() if key not in clock} for record in metrics]

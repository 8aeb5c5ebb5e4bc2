"""Run folders as a training leaves them, without training."""

from pathlib import Path
from typing import Any

from scx_core.runs import RunFolder, to_dict, write_json
from scx_core.sentences import SentenceConfig
from scx_core.training.config import TrainConfig, TrainingJob, TranscoderConfig


def a_run(
    root: Path,
    name: str,
    coder: TranscoderConfig | None = None,
    *,
    model: str = "m" * 64,
    data: str = "d" * 64,
    held_out: tuple[int, ...] = (1, 2),
    genes: int = 12,
    finished: dict[str, Any] | None = None,
    records: tuple[dict[str, Any], ...] = (),
    steps: int = 40,
) -> RunFolder:
    """`finished`: changes of the figures beside the set; None for a run that is under way."""
    job = TrainingJob(
        SentenceConfig(n_genes=genes), transcoder=coder or TranscoderConfig(), train=TrainConfig(steps=steps)
    )
    known = {
        "tool": {"name": "scX", "version": "0"},
        "model": {"name": "a model", "fingerprint": model},
        "data": {"name": "cells", "fingerprint": data},
    }
    run = RunFolder.create(root, "train", to_dict(job), name, provenance=known)
    write_json(run.path / "split.json", {"held_out": list(held_out)})
    for record in records:
        run.log(record)
    if finished is not None:
        figures = {"cells": 5, "tokens": 500, "ce_recovered": 0.99, "kl": 0.02}
        layers = [{"l0": 7.0, "fvu": 0.1, "dead": 0.0}, {"l0": 9.0, "fvu": 0.3, "dead": 0.5}]
        metrics = {**figures, "per_layer": layers, **finished}
        write_json(run.path / "transcoders" / "scx.json", {"n_features": 64, "metrics": metrics})
        run.write_status("done", steps, steps)
    return run


def record(step: int, **more: Any) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    layers = {"l0": [4.0, 6.0], "fvu": [0.2, 0.4], "dead": [0.0, 0.1]}
    return {"step": step, "loss": 1.0, **layers, "tokens_per_second": 1000, **more}

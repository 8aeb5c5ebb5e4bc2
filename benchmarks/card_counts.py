"""What a graphics card would be asked for, counted where there is none: launches, waits, bytes to the host.

    python benchmarks/card_counts.py [--layers 24]       # in the root of the version that is counted

A step of training, a step of all layers together, a traced cell, a consensus and a batch of the atlas on a
small random model of so many layers, on the fake card of tests/fake_cuda. The numbers of launches and waits
depend on the layers and not on their width; bytes are those of this width. Table: docs/benchmarks.md.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path.cwd()), str(HERE / "tests" / "fake_cuda")]

import fake_device  # noqa: E402  before anything is differentiated
import numpy as np  # noqa: E402

from tests.tiny import random_set, save_tiny, tiny_table  # noqa: E402

COUNTS = ("launches", "syncs", "uploads", "downloaded", "exact", "rounded")


def counted(job: Callable[[], object], times: int = 1, top: int = 0) -> dict:
    """Counts of one run of a job that has run before."""
    job()
    report = fake_device.REPORT
    before = {name: getattr(report, name).copy() for name in COUNTS}
    for _ in range(times):
        job()
    spent = {name: getattr(report, name) - before[name] for name in COUNTS}
    found = {name: round(spent[name].total() / times) for name in COUNTS}
    for name in ("syncs", "launches", "downloaded") if top else ():
        found[f"most {name}"] = dict(spent[name].most_common(top))
    return found


def counts(layers: int, width: int, only: str = "", top: int = 0) -> dict:
    """The table, by job."""
    from scx_core.atlas import AtlasConfig, make_atlas
    from scx_core.circuits import ConsensusConfig, TraceConfig, make_tracer
    from scx_core.language import load_language
    from scx_core.training.config import TrainConfig, TranscoderConfig
    from scx_core.training.finetune import FineTune
    from scx_core.training.plan import make_plan
    from scx_core.training.processes.distributed import ALONE
    from scx_core.training.tokens import encode_texts
    from scx_core.training.trainer_state import TrainerState

    folder = save_tiny(Path(tempfile.mkdtemp()), layers=layers, width=width)
    lm, table = load_language(folder, "cuda", "float32"), tiny_table(40)
    texts = encode_texts(lm, table, np.arange(40), lm.sentence_config)
    found = {}

    def training(kind: str) -> dict:
        cfg, train = TranscoderConfig(kind=kind, k=4, expansion=8), TrainConfig(cells_per_batch=8, steps=1000)
        state = TrainerState.fresh(lm, texts, cfg, train, make_plan(lm, texts, cfg, train, ALONE))
        state.step(0)
        return counted(lambda: state.step(1), 2, top)

    coders = random_set(lm, "jumprelu", skip=False).to(lm.device, lm.dtype)
    tracer = make_tracer(lm, coders, table)
    tune = FineTune(lm, coders, 1e-4)
    jobs: dict[str, Callable[[], dict]] = {
        "training step, batchtopk": lambda: training("batchtopk"),
        "training step, topk": lambda: training("topk"),
        "step of all layers together": lambda: counted(lambda: tune.step(texts, range(8), 1.0), 1, top),
        "traced cell, 96 nodes": lambda: counted(lambda: tracer.cell(0, cfg=TraceConfig(nodes=96)), 1, top),
        "consensus, a cell": lambda: {
            name: value // 4 if isinstance(value, int) else value
            for name, value in counted(
                lambda: tracer.consensus("Dendritic", cfg=ConsensusConfig(cells=4, nodes=96)), 1, top
            ).items()
        },
        "atlas, batch of 8 cells": lambda: _atlas_batch(top),
    }

    def _atlas_batch(top: int) -> dict:
        few, more = (
            counted(
                lambda n=n: make_atlas(lm, coders, table, range(n), AtlasConfig(batch=8, context=0)), 1, top
            )
            for n in (16, 32)
        )
        return {
            name: (more[name] - few[name]) // 2 if isinstance(value, int) else more[name]
            for name, value in few.items()
        }

    for name, job in jobs.items():
        if only in name:
            found[name] = job()
            print(name, found[name], file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--only", default="", help="jobs whose name holds this text")
    parser.add_argument("--top", type=int, default=0, help="also where most of it comes from")
    args = parser.parse_args()
    with fake_device.gpu(str(Path.cwd()), strict=True):
        print(json.dumps(counts(args.layers, args.width, args.only, args.top), indent=1))


if __name__ == "__main__":
    main()

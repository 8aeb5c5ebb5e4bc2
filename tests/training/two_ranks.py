"""What each of the processes does that `torchrun` starts for test_distributed.py: train the runs of a folder.

Beside a run may lie a file `stop`, `die` or `nan` with a step: what happens to rank 1 then; or `planned`:
what is measured is planned.
"""

import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import torch

from scx_core.errors import ScxError
from scx_core.runs import RunFolder
from scx_core.runs.ranks import ranks_of
from scx_core.training import train
from scx_core.training.processes.distributed import team
from tests.training.builders import open_job
from tests.training.test_best import MEASURED, measured_as


def main(root: Path) -> None:
    with team("cpu") as members:
        for path in sorted(root.glob("*/run.json")):
            run = RunFolder.open(path.parent)
            try:
                one(run, members)
            except ScxError as error:
                print(f"rank {members.rank}: {error}", file=sys.stderr, flush=True)
                if (run.path / "die").exists():
                    raise
            members.meet()


def one(run, members) -> None:
    lm, table = open_job(run)

    def happens(what: str, done: int) -> bool:
        file = run.path / what
        return members.rank == 1 and file.exists() and done == int(file.read_text())

    def tell(done: int, total: int, message: str) -> None:
        if message != "training":
            return
        if happens("stop", done):
            os.kill(os.getpid(), signal.SIGTERM)
        if happens("die", done):
            os.kill(os.getpid(), signal.SIGKILL)
        if happens("nan", done):
            with torch.no_grad():
                lm.part(1, "mlp").dense_4h_to_h.bias[0] = float("nan")
        assert members.rank or len(ranks_of(run)) <= members.size

    with measured_as(*MEASURED) if (run.path / "planned").exists() else nullcontext():
        train(run, lm, table, tell, members)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))

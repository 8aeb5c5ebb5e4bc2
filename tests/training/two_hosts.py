"""What torchrun starts on each of two computers for test_two_hosts.py: the run at a path of the first one.

Beside the run may lie a file `die` with a step: the second computer's process is killed then; or `hang`: it
stops to answer. Both are sent to it with the run.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from scx_core.errors import ScxError
from scx_core.runs import RunFolder
from scx_core.training import train
from scx_core.training.processes.distributed import team
from scx_core.training.processes.hosts import share
from tests.training.builders import open_job


def main(path: Path) -> None:
    with team("cpu") as members:
        print(f"rank {members.rank}: sees the run: {(path / 'run.json').exists()}", flush=True)
        share(members, path)
        run = RunFolder.open(path)

        def tell(done: int, total: int, message: str) -> None:
            for what, number in (("die", signal.SIGKILL), ("hang", signal.SIGSTOP)):
                file = path / what
                if message == "training" and members.rank and file.exists() and done == int(file.read_text()):
                    os.kill(os.getpid(), number)

        try:
            train(run, *open_job(run), tell, members)
        except ScxError as error:
            sys.exit(f"rank {members.rank}: {error}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))

"""What each of the processes does that test_hosts.py starts: share its folders, and wait for a slow one."""

import json
import os
import sys
import time
from pathlib import Path

from scx_core.errors import ScxError
from scx_core.training.processes.distributed import team
from scx_core.training.processes.hosts import share


def main(root: Path) -> None:
    (root / f"imported-{os.environ['RANK']}").touch()
    while len(list(root.glob("imported-*"))) < 2:  # the patience is for what comes then
        time.sleep(0.05)
    with team("cpu") as members:
        run = root / str(members.rank) / "run"
        share(members, run)
        if members.leads:
            (run / "checkpoints" / "step-000004.json").unlink()
            (run / "checkpoints" / "step-000008.json").write_text("8")
        members.meet()
        share(members, run / "checkpoints")
        if not members.leads:
            time.sleep(5)
        try:
            members.any(False)
            said = ""
        except ScxError as error:
            said = str(error)
        (root / f"said-{members.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

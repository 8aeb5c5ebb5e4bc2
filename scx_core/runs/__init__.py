"""Run folders, provenance and background jobs: everything about a piece of work except what it computes.

In comes a configuration (a frozen dataclass of `option()`s) and a job to start; out go a folder with its
metrics, status and checkpoints that survives a kill at any instant, and the record of what made it.
This room knows nothing of biology or of models.
"""

from scx_core.runs.background import all_jobs, find_job, launch_job, work_on
from scx_core.runs.cached_results import CachedResult, cached, find_cached, list_cached
from scx_core.runs.checkpoints import Checkpoint
from scx_core.runs.files import append_jsonl, read_json, read_jsonl, sha256_of, write_atomic, write_json
from scx_core.runs.jobs import list_runs, resume, start, stop, stop_requested
from scx_core.runs.options import (
    Option,
    add_arguments,
    check,
    from_dict,
    from_namespace,
    option,
    options_of,
    to_dict,
)
from scx_core.runs.progress import ConsoleProgress, Progress, silent
from scx_core.runs.provenance import provenance
from scx_core.runs.run_folder import LAST_USED, RunFolder, RunStatus, runs_root

"""What takes longer than a click, as a job that outlives the page: asked, done in a process of its own, kept.

In come sources (cells, model, set) and a question with its settings; out goes a job whose answer lies in
the runs folder, found again by whoever asks the same of the same. Evidence and atlases have jobs of their own
(`scx_core.evidence.by_type.job`, `scx_core.atlas.atlas_folder`), made in the same way
(`scx_core.runs.background`).
"""

from scx_core.tasks.sources import Opened, Sources
from scx_core.tasks.task import Task, answer_of, job_of_task, launch_task, run_task

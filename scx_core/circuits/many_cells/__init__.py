"""Many cells of a large model: a cell's result is kept on disk as soon as it is there.

In: a tracer, cells, a target. Out: merged circuits, one a cell (`two_steps.py`), kept by `kept_cells.py`.
"""

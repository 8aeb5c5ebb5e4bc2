"""
Training runs: loss recovered against active features
=====================================================

Two trainings of five steps: enough to draw, too few to judge.
"""

import tempfile

import scx_core as scx

folder = tempfile.mkdtemp()  # your folder of runs

few = {"steps": 5, "cells_per_batch": 4, "expansion": 2, "calibration_cells": 4, "evaluate_cells": 4}
for k in (4, 16):
    scx.tl.train_transcoders("embedded", preset="quick", out=folder, k=k, **few)
_ = scx.pl.runs(folder)

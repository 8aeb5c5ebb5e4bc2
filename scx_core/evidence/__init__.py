"""Evidence: what a circuit says, held against the real model and against the baselines that could win.

In come a tracer and cells; out go measured effects with intervals and the number of cells behind them.
"""

"""The figures that everything else is judged by, each defined once (method §3).

In: tensors and sums of them. Out: numbers. Training, validation, the atlas, the tracer and the benchmarks
call these; the tests hold every one of them to the definition. Needs torch and NumPy alone.

    active, dead, live, l0                     which features are on, how many a token, which never are
    fvu, squares_about_mean, RunningVariance   share of the outputs' variance that is left unexplained
    cross_entropy, kl_divergence, ce_recovered losses of next tokens, and what a stand-in wins back
    agreement                                  share of cells that are named alike
"""

from scx_core.metrics.definitions import (
    LIVE_LOG10,
    RunningVariance,
    active,
    agreement,
    ce_recovered,
    cross_entropy,
    dead,
    fvu,
    kl_divergence,
    l0,
    live,
    squares_about_mean,
    squares_from_sums,
)

"""Parts of a step are timed where a stopwatch runs, and nowhere else."""

from scx_core.training.profiler import phase, stopwatch


def test_a_stopwatch_hears_the_parts_inside_it():
    with phase("before"):
        pass
    with stopwatch() as seconds:
        for _ in range(2):
            with phase("encode"):
                sum(range(1000))
        with phase("select"):
            pass
    with phase("after"):
        pass
    assert set(seconds) == {"encode", "select"}
    assert seconds["encode"] > 0

"""How long the feature page takes with a large atlas: `python -m tests.pages.atlas_timing`.

24 × 8,192 generated features; from a choice to all that the page then says, without the browser's drawing.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from pages.parts.features import atlas_source
from scx_core.atlas import Atlas
from scx_core.bench import machine
from scx_core.bench.atlas import generated_atlas
from tests.pages.running import open_page, well

TIMES = 5
CHOICES = {
    "verdict": ("gene", "family", "dead", "prompt", "cell type"),
    "layer": ("0", "5", "11", "17", "23"),
    "sort": ("mass", "frequency", "maximum", "layer", "top5"),
    "text": ("gene11", "gene12", "type 7", "L2·513", "gene1"),
}


def main() -> None:
    """Measure and print."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SCX_RUNS"] = folder
        generated_atlas(Path(folder) / "atlas", 24, 8192)
        opened: list[Atlas] = []
        atlas_source.known = lambda ctx, cfg=None: opened[0] if opened else None
        app = well(open_page("features", open_page("start")))
        began = time.perf_counter()
        opened.append(Atlas.open(Path(folder) / "atlas"))
        well(app.run())
        print(f"opened: {time.perf_counter() - began:.3f} s")
        for name, values in CHOICES.items():
            _times(app, f"another {name}", [(f"find {name}", value) for value in values])
        app.button_group[0].set_value("One gene").run()
        _times(app, "another gene", [("gene of features", f"GENE{number}") for number in range(TIMES)])


def _times(app: AppTest, what: str, choices: list[tuple[str, str]]) -> None:
    seconds = [_seconds(lambda choice=choice: _choose(app, *choice)) for choice in choices]
    print(f"{what}: median {statistics.median(seconds):.3f} s, worst {max(seconds):.3f} s")


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _choose(app: AppTest, name: str, value: str) -> None:
    box = next(box for box in app.selectbox if box.key and name in box.key)
    box.options += [] if value in box.options else [value]  # a field that completes takes any text
    box.set_value(value).run()
    well(app)


if __name__ == "__main__":
    main()

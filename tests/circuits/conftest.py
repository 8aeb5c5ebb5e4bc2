"""The tracer of a tiny random model, which most tests of this room ask."""

from __future__ import annotations

import pytest

from scx_core.circuits import make_tracer
from tests.tiny import random_set, renamed_table, tiny_language


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    lm = tiny_language(tmp_path_factory.mktemp("model"), dtype="float32")
    return make_tracer(lm, random_set(lm, "jumprelu", skip=False), renamed_table())

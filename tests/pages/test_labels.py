"""With the default: no page shows an error, no two of its controls have one name, none begins with "of",
and the side bar of every page has the glossary."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.common.words import HELP, MORE, TERMS, glossary, unlinked
from tests.pages.running import ROOT, open_page, said, well
from tests.pages.test_every_page import PAGES

KINDS = (
    "button", "download_button", "selectbox", "number_input", "text_input", "text_area", "toggle", "checkbox",
    "radio", "slider", "multiselect", "file_uploader",
)  # fmt: skip


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[str]]:
    """With the embedded default, the labels of each kind of control on each page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCX_RUNS", str(tmp_path_factory.mktemp("labels")))
        for name in ("SCX_DATA", "SCX_MODEL", "SCX_TRANSCODERS"):
            patch.delenv(name, raising=False)
        app, found = None, {}
        for page in PAGES:
            app = well(open_page(page, app))
            assert not app.error, page
            for kind in KINDS:
                found[page, kind] = [str(getattr(one, "label", one.proto.label)) for one in app.get(kind)]
        return found


def test_no_two_controls_of_a_page_have_one_name(labels: dict[tuple[str, str], list[str]]) -> None:
    twice = {
        (*where, name)
        for where, names in labels.items()
        for name, n in Counter(names).items()
        if n > 1 or name.lower().startswith("of ")
    }
    assert not twice and sum(map(len, labels.values())) > 100


def test_the_side_bar_has_every_word(runs: Path) -> None:
    app = well(AppTest.from_file(ROOT / "app.py", default_timeout=240).run())  # draws it on every page
    words = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", "\n".join(one.value for one in app.sidebar.markdown))
    assert [term for term, _ in glossary() if f"**{term}**" not in words] == []


def test_each_word_is_defined_once() -> None:
    terms = [part.strip().lower() for term, _ in glossary() for part in term.split(",")]
    wanted = {"l0", "fvu", "stand-in", "transcoder", "feature", "completeness", "replacement score"}
    assert wanted <= set(terms) and len(set(terms)) == len(terms)
    assert any(one.startswith("ce (") for one in terms) and any(one.startswith("kl (") for one in terms)
    assert set(TERMS) <= set(HELP) and not set(MORE) & set(HELP)


def test_every_term_has_a_place_that_help_texts_lead_to(runs: Path) -> None:
    app = well(open_page("words"))
    places = [one.proto.anchor for one in app.subheader]
    assert len(set(places)) == len(places) == len(glossary())
    for key in TERMS:
        (where,) = re.findall(r"\(words\?term=([a-z0-9-]+)\)$", HELP[key])
        assert where in places, key
    app.query_params["term"] = "fvu"
    assert "**FVU**: Fraction of variance unexplained" in said(well(app.run())), "the term that was asked for"
    app.text_input(key="words wanted").set_value("fvu").run()
    assert 0 < len(well(app).subheader) < 10


def test_titles_lead_to_the_words_that_they_use(runs: Path) -> None:
    for page in ("train", "validate", "features"):
        assert "(words?term=transcoder)" in said(open_page(page)), page


def test_a_table_has_no_link_that_nobody_can_follow() -> None:
    assert unlinked(f"Only this layer. {HELP['ce']}").endswith("Lower is better.")

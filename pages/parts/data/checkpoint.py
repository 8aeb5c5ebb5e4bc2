"""A checkpoint of the hub that is not on this computer: the button that fetches it, how far that is, what can
stand in its way."""

from __future__ import annotations

import streamlit as st

from pages.parts.common.tasks import begin, waits
from pages.parts.common.words import safe


def checkpoint_here(source: str) -> bool:
    """Whether the model can be opened without a download; else what there is to do, drawn here."""
    from scx_core.language.hub import checkpoint_folder, is_hub_id
    from scx_core.tasks.makers import download_task

    if not is_hub_id(source) or checkpoint_folder(source) is not None:
        return True
    st.info(
        f"**{safe(source)}** is a checkpoint of the Hugging Face hub and not on this computer yet. Nothing "
        "is fetched unless you say so; from then on it is used from here, without asking the hub again."
    )
    task = download_task(source)
    if not waits(task) and st.button("Download it", type="primary", icon=":material/download:"):
        begin(task)
    with st.expander("Gated, private, or no internet here?"):
        st.markdown(_EXPLAINED.format(name=safe(source)))
    return False


_EXPLAINED = """\
**Gated** checkpoints (Gemma's, for example) are given to accounts that accepted the terms of their owners:
sign in to the hub, open the checkpoint's page, accept them. Then call `hf auth login` on the computer that
runs this app, with a token that may read, or start the app with `HF_TOKEN` set. The token is never typed in.

**Private** ones need the same sign-in, with an account that may see them.

**No internet here:** on another computer call `hf download {name} --local-dir FOLDER` (`pip install
huggingface_hub`), bring FOLDER here, and give its path as the model. A mirror of the hub inside your
institute is used when the app is started with `HF_ENDPOINT` set.

A download that was stopped goes on where it was. Files lie in the hub's cache, `~/.cache/huggingface` unless
`HF_HOME` names another place."""

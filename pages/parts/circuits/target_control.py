"""Which score a circuit explains, in plain words."""

from __future__ import annotations

import streamlit as st

from pages.parts.common import kept_widgets as kept

# The kinds of scx_core.circuits.TraceConfig.target.
TARGETS = {
    "auto": "The answer against its competitors",
    "answer": "The whole answer against theirs",
    "contrast": "One token of it against theirs",
    "logit": "The answer alone",
    "logprob": "How probable the answer is",
    "token": "A token of your choice",
}
_HELP = """
What the effects add up to.

- **Against its competitors**: one token where one parts the answer from all of them, else whole answers.
- **Whole answer against theirs**: the logarithm of how much more probable the answer is than the competitors
  together, read at every token where they part, in nats.
- **One token against theirs**: the answer's logit minus their mean logit, at the token where most of them
  part. Competitors that part elsewhere are left out, and named.
- **Alone**: the logit of that token minus the mean logit of all tokens.
- **How probable**: the logarithm of that token's probability among all tokens, in nats.
- **A token of your choice**: its logit at the same place, minus the mean of all tokens.
"""
_TOKEN_HELP = "A word or a piece of one that is one token of the model, or its number in the vocabulary."


def target_control() -> tuple[str, str]:
    """The kind of target, and the token where one is asked for (else empty)."""
    kinds = list(TARGETS)
    kind = kept.keep(
        "target",
        st.selectbox(
            "What is explained",
            kinds,
            key=kept.kept("target", kinds[0], kinds),
            format_func=TARGETS.__getitem__,
            help=_HELP,
        ),
    )
    if kind != "token":
        return kind, ""
    typed = st.text_input("Token", key=kept.kept("token", ""), placeholder="CD79A or 417", help=_TOKEN_HELP)
    return kind, kept.keep("token", typed)

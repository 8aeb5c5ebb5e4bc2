"""The language model that reads cell sentences: loading, where its parts are, hooks, answers.

In comes a model folder or hub id; out comes a `Language` that one can read from (MLP inputs and outputs,
answer scores) and write into (replaced MLPs). `architectures.py` is the one table of architecture quirks.
"""

from scx_core.language.answers import (
    Decision,
    Parting,
    answers_of,
    decision,
    partings,
    predicted,
    score_answers,
    score_labels,
)
from scx_core.language.architectures import FAMILIES, Architecture, architecture
from scx_core.language.attention import fast_attention
from scx_core.language.cell_texts import (
    AnswerAffixes,
    answer_form,
    answer_labels,
    encode_cells,
    name_warnings,
    text_limit,
    whole_answers,
    wording,
)
from scx_core.language.contracts import Term, terms_of, text_warnings
from scx_core.language.hooks import (
    MlpIO,
    OnOutput,
    OnTokens,
    captured_mlps,
    captured_neurons,
    forward,
    idle_mlps,
    mlp_io,
    positions,
    replaced_mlps,
)
from scx_core.language.label_map import Mapped, map_labels, with_answers
from scx_core.language.later_blocks import BlockCall, captured_blocks, hidden_from
from scx_core.language.loading import EMBEDDED, Language, is_small, load_language, pick_device
from scx_core.language.numerics.backward_memory import texts_with_gradients
from scx_core.language.numerics.onednn import addmm_, bmm, linear, mm
from scx_core.language.numerics.products import rounded_products
from scx_core.language.raw_answers import (
    Fit,
    RawAnswer,
    RawAnswers,
    Suggested,
    fit_of,
    raw_answers,
    shortened,
    suggest_answers,
)

"""A model with its atlas, circuits and evidence as one file: what a lab puts beside its paper.

In come an atlas, circuits, evidence records and a validation of one model and one transcoder set, gathered
from an open tracer and the runs folder (`gather`) or from a folder of results (`gather_folder`). Out goes one
HTML page (`share_page`) that is searched offline: nothing is asked of anywhere, every name is shown as text,
and only the scripts whose marks stand in its content security policy can run. The same inputs give the same
bytes. Results of a notebook are kept in an AnnData object (`keep_in`, `result_in`).
"""

from scx_core.share.gather import ShareConfig, Shared, gather, gather_folder, stamp_of
from scx_core.share.in_anndata import keep_in, kept_in, result_in
from scx_core.share.page import share_page, write_share

__all__ = [
    "ShareConfig",
    "Shared",
    "gather",
    "gather_folder",
    "keep_in",
    "kept_in",
    "result_in",
    "share_page",
    "stamp_of",
    "write_share",
]

"""The dashboard's pages: layout and words only.

In come clicks and what `scx_core` found; out go pages, one file each, put together by `app.py`. What
several pages share lies in `parts`. Nothing here computes, opens or parses: that is `scx_core`'s.
"""

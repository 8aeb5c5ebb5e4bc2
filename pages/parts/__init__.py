"""Parts that the pages share: session, loaders, messages, forms, charts, the job panel.

In come a session's choices and `scx_core`'s results; out go widgets. One module an idea.
"""

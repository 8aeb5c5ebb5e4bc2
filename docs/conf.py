"""The documentation site: Sphinx with scverse's habits, and nothing from outside when it is read.

`python docs/build.py` builds it (any warning ends the build). Notebooks and gallery pictures are made in the
build, from the cells and models that come with the package; the pages of functions, commands and formats are
made from the code (`docs/_ext`).
"""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(DOCS.parent), os.environ.get("PYTHONPATH", "")])
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ["OMP_NUM_THREADS"] = "1"  # in each kernel: a page shares its computer
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from scx_core import __version__  # the path is set above

project = "scX"
author = "scX contributors"
copyright = "scX contributors, BSD-3-Clause"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "site_links",
    "site_reference",
]
root_doc = "index"
exclude_patterns = [
    "_build",
    "_ext",
    "gallery/*.rst",
    "**.ipynb_checkpoints",
    "gallery_built/*.ipynb",
    "**sg_execution_times.rst",
]
templates_path = ["_templates"]
nitpicky = False
default_role = "code"  # docstrings write `name` for code, as they are read in a terminal

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "attrs_inline"]
myst_heading_anchors = 4
nb_execution_mode = os.environ.get("SCX_DOCS_EXECUTE", "force")  # "cache" while writing
nb_execution_timeout = 900
nb_execution_in_temp = True  # what a notebook writes is not left among the documents
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # they would come from a server elsewhere

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "gallery_built",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "copyfile_regex": r"",
    "image_scrapers": ("site_figures.pictures",),
    "matplotlib_animations": False,
    "parallel": False,
    "plot_gallery": os.environ.get("SCX_DOCS_GALLERY", "True"),
}

html_theme = "sphinx_book_theme"
html_title = f"scX {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_search_summary = False  # summaries are fetched, which a browser refuses to pages on a disk
html_copy_source = False
html_theme_options = {
    "home_page_in_toc": False,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "use_repository_button": False,
    "navigation_with_keys": False,
    "search_as_you_type": False,
}

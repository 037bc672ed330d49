"""How Sphinx builds the site: `python -m sphinx -W -b html docs docs/_build/html`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "_ext")]

from provisioner import __version__

project = "jupyter-volumes"
author = "the jupyter-volumes authors"
copyright = author  # noqa: A001 - the name that Sphinx reads
version = release = __version__

extensions = ["generated", "myst_parser", "sphinx_copybutton", "sphinx_design"]
myst_enable_extensions = ["colon_fence", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_ext"]
nitpicky = True
smartquotes = False  # options and code are to stay as they are typed

html_theme = "pydata_sphinx_theme"
html_title = "jupyter-volumes"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = html_logo = "_static/logo.svg"
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "jupyter-volumes"},
    "github_url": "https://github.com/jupyter-volumes/jupyter-volumes",
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}
html_sidebars = {page: [] for page in ("index", "getting-started", "how-it-works", "benchmarks")}

# Prompts and output are no part of what a reader copies.
copybutton_prompt_text = r"\$ |In \[\d*\]: "
copybutton_prompt_is_regexp = True

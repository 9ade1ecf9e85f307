"""How Sphinx builds the documentation site: ``make docs``.

The source directory is the root of the project, so that links between pages, notebooks and programs
are the same on the site as in the repository.  All warnings are errors.
"""

import sys
from pathlib import Path

import ngdata

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))

project = "ngdata"
author = "The ngdata developers"
project_copyright = author
release = version = ngdata.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "extensions.reference",
    "extensions.docstrings",
    "extensions.links",
    "extensions.figures",
    "extensions.notebook_store",
]

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/reference/*.rst",
    "notebooks/*.ipynb",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "ngdata/datasets/celegans/README.md",
]
exclude_patterns = [".*", "docs/_build", "docs/extensions", "ngdata/_*", "tests", "benchmarks"]

# A link that leads nowhere, or a name that does not exist, fails the build.  Please leave it so.
nitpicky = True
# Types of other libraries, which no page here describes.
nitpick_ignore_regex = [
    ("py:.*", r"(collections|datetime|types|typing|os|pathlib|uuid|decimal|contextlib)\..*"),
    ("py:.*", r"(pandas|numpy|pyarrow|polars|networkx|scipy|dask|sqlalchemy|redis|trimesh|pd)\..*"),
    (
        "py:class",
        r"ArrayLike|AsyncSession|Counts|EntityT|Settings|csr_array|Compared|Moment|Regions|go\.Figure",
    ),
]

highlight_language = "none"
pygments_style = "friendly"
pygments_dark_style = "github-dark"

# Markdown and notebooks.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True
# Widgets would need scripts of other hosts; a progress bar is not worth keeping.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]

# The reference: types from annotations, in the signature; a parameter per line if it is long.
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_google_docstring = False
napoleon_attr_annotations = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]

html_theme = "furo"
html_title = "ngdata"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}

# Examples are copied without their prompts and their output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

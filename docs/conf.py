"""How Sphinx makes the documentation, from the root of the repository: `make docs`, with every warning an error."""

from importlib.metadata import version as version_of

project = "micro_framework"
author = "The micro_framework authors"
copyright = author  # noqa: A001 - Sphinx's name
version = release = version_of("micro-framework")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "docs/**.md",
    "examples/README.md",
    "examples/*/README.md",
    "benchmarks/README.md",
]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

default_role = "code"  # names in docstrings stand between single backticks
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = f"micro_framework {version}"

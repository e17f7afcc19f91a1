"""Settings of the documentation site: ``make docs`` builds it, with warnings as errors."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from qsmbids import __version__  # noqa: E402

project = 'qsmbids'
author = 'the authors of qsmbids'
copyright = '2026, ' + author  # noqa: A001
version = release = __version__
extensions = ['generated', 'myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_generated/templates']

myst_enable_extensions = ['amsmath', 'colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 4
html_math_renderer = 'mathml'
# Text between single backquotes in docstrings.
default_role = 'code'
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'
napoleon_google_docstring = False
napoleon_custom_sections = ['Inputs']
napoleon_use_ivar = True
napoleon_use_rtype = False
suppress_warnings = ['myst.header']

html_theme = 'furo'
html_title = f'qsmbids {__version__}'
html_static_path = []
html_show_sourcelink = False

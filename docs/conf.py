"""The site: `sphinx-build -W --keep-going -n docs docs/_build/html`."""

from docutils import nodes
from math_core import LatexToMathML
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from vi_bench import __all__ as public

project = "vi_bench"
author = "The vi_bench developers"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "vi_bench"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

nb_execution_mode = "force"  # what is shown is what this version does
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = "remove"

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: f"vi_bench.{name}" for name in public} | {
    "Mixture": "vi_bench.mixture.mixture.Mixture"
}
napoleon_use_ivar = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!vi_bench\.).*"),  # of other packages no inventory is fetched
    ("py:.*", r"vi_bench\..*\.(Rows|Stream|is_start)"),
]


as_mathml = LatexToMathML().convert_with_local_state


def inline(writer: HTML5Translator, node: nodes.math) -> None:
    """Write maths as MathML: whoever reads the page fetches nothing for it."""
    writer.body.append(as_mathml(node.astext(), displaystyle=False))
    raise nodes.SkipNode


def displayed(writer: HTML5Translator, node: nodes.math_block) -> None:
    """Write an equation that has a line of its own."""
    equation = as_mathml(node.astext(), displaystyle=True)
    writer.body.append(f'<div class="math">{equation}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the writers of maths."""
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))

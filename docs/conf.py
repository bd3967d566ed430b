"""How Sphinx builds the site; `make site` puts the pages together (`kdig/study/site.py`)."""

from kdig import __version__
from kdig.study.pages import WEB, mathml

project = "kdig"
release = __version__
extensions = ["myst_nb"]
exclude_patterns = ["extra"]

# notebooks are shown as they ran
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_code_prompt_show = "Set-up: show"
nb_code_prompt_hide = "Set-up: hide"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_dmath_double_inline = True
myst_heading_anchors = 3

html_theme = "sphinx_book_theme"
html_title = "kdig"
html_extra_path = ["../extra"]
html_static_path = [str(WEB)]
html_css_files = ["math.css", "site.css"]
html_math_renderer = "mathml"
html_theme_options = {
    "footer_content_items": [],
    "home_page_in_toc": True,
    "navbar_persistent": [],
    "show_toc_level": 2,
    "use_fullscreen_button": False,
}
html_context = {"default_mode": "auto"}


def setup(app: object) -> None:
    """Equations as MathML, in place of a script that would be fetched."""

    def draw(visitor: object, node: object) -> None:
        from docutils.nodes import SkipNode, math_block

        visitor.body.append(mathml(node.astext(), display=isinstance(node, math_block)))
        raise SkipNode

    app.add_html_math_renderer("mathml", (draw, None), (draw, None))

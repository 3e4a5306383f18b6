"""How Sphinx builds these pages: ``make docs``, which takes warnings for errors."""

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the docstrings are those of this checkout

project = "hermes_session_mw"
version = release = metadata.version("hermes_session_mw")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
nitpicky = True
nitpick_ignore_regex = [
    # Of the standard library and of other projects: their inventories would have to be fetched.
    (
        "py:.*",
        r"(collections\.abc|contextlib|datetime|httpx|httpx2|logging|opentelemetry|os|sqlalchemy|starlette|types)\..*",
    ),
    ("py:class", "AsyncEngine|Engine|URL"),  # SQLAlchemy's, as StoreLike names them
    ("py:class", r"'.*'|AnyMetadata\.ANY|(.*\.)?Never\.NEVER"),  # a value of a Literal
    ("py:class", r"hermes_session_mw\.otel\._Operation"),  # an Operation
    ("py:class", r"tuple\[str"),  # where a default is a factory's, a signature is split at commas
]

# The colours of nginx's configuration, whose lexer does not know all of its expressions.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
pygments_dark_style = "github-dark"  # the usual one underlines names, like links
html_title = f"hermes_session_mw {version}"
html_show_copyright = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]

# Headings get the anchors that they have where a repository's pages are shown, so that one link
# serves both.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]  # the front page's cards; the glossary

default_role = "py:obj"  # what docstrings put between single backticks
autoclass_content = "both"  # the arguments are told where __init__ is
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 80


def setup(app: "Sphinx") -> None:
    """Have Sphinx call what is below."""
    app.connect("missing-reference", find_public_name)
    app.connect("doctree-read", bring_files_along, priority=400)  # before files are collected


def find_public_name(
    app: "Sphinx", env: "BuildEnvironment", node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Resolve a public name by which only the package's own modules call it.

    An annotation says ``hermes_session_mw.session.turn_lock.Turn``, a docstring ``Turn`` or
    ``Store.load``; the reference has ``hermes_session_mw.Turn``.
    """
    if node["refdomain"] != "py":
        return None
    python = env.domains.python_domain
    # Without the module, whose name is in lower case.
    parts = [part for part in node["reftarget"].split(".") if part != project]
    while len(parts) > 1 and parts[0].islower():
        del parts[0]
    end = "." + ".".join(parts)
    objects = python.objects.items()
    known = [name for name, found in objects if name.endswith(end) and not found.aliased]
    if len(known) != 1:
        return None
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", known[0], node, contnode)


def bring_files_along(_app: "Sphinx", doctree: nodes.document) -> None:
    """Turn a link to a Markdown file that is no page, as the README, into a download of the file.

    Where the repository is shown nobody knows here; other files MyST takes along by itself.
    """
    for node in list(doctree.findall(pending_xref)):
        target = Path(f"{node['reftarget']}.md")
        if node.get("refdomain") == "doc" and target.is_absolute() and target.is_file():
            path = os.path.relpath(target, (ROOT / "docs" / node["refdoc"]).parent)
            node.replace_self(
                download_reference("", "", *node.children, refdoc=node["refdoc"], reftarget=path)
            )

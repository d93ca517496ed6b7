"""Configuration of Sphinx: `make docs` builds the site. Its navigation follows the lists of links in the READMEs."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from tools import contract_pages  # noqa: E402

project = "Goodfaith"
root_doc = "README"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Goodfaith"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost|[a-z.]+\.example)\b"]

RENDERED = {"reference/openapi": contract_pages.http, "reference/asyncapi": contract_pages.events}
"""Pages that are filled from the contract of the same name."""


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the rendered contract to its page, and a hidden table of contents to an index."""
    if page in RENDERED:
        source[0] += RENDERED[page](json.loads((HERE / f"{page}.json").read_text(encoding="utf-8")))
    elif page.endswith("README"):
        for section in re.split(r"^## ", source[0], flags=re.M):
            title, _, text = section.partition("\n")
            if pages := dict.fromkeys(re.findall(r"^[-|].*?\]\(([\w./-]+)\.md\)", text, flags=re.M)):
                listed = "\n".join(pages)
                source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n"


def finish(app: Sphinx, error: Exception | None) -> None:
    """Give the site the front page that web servers look for."""
    front = Path(app.outdir) / "README.html"
    if error is None and front.exists():
        shutil.copyfile(front, front.with_name("index.html"))


def setup(app: Sphinx) -> None:
    """Connect the hooks."""
    app.connect("source-read", complete)
    app.connect("build-finished", finish)

"""Configuration of Sphinx: `make docs` builds the site. Its navigation follows the lists in README.md."""

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
LISTED = ("decisions/", "runbooks/")
"""Folders whose index lists their pages. They are not in the navigation, which every page repeats."""


def complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the rendered contract to its page, and the navigation to the front page."""
    if page in RENDERED:
        contract = HERE / f"{page}.json"
        app.env.note_dependency(str(contract))
        source[0] += RENDERED[page](json.loads(contract.read_text(encoding="utf-8")))
    elif page.startswith(LISTED) and not page.endswith("README"):
        source[0] = f"---\norphan: true\n---\n{source[0]}"
    elif page == root_doc:
        for section in source[0].split("\n## "):
            title, _, text = section.partition("\n")
            if pages := re.findall(r"^- \[.*?\]\(([\w./-]+)\.md\)", text, flags=re.M):
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

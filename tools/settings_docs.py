"""``python -m tools.settings_docs > docs/reference/settings.md``: every setting, from its declaration."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any, Final

from pydantic import SecretStr

from shared import secret_files
from shared.settings import Settings

HEAD: Final = """# Settings

Every setting of every process, for operators. Generated from the declarations:
`python -m tools.settings_docs > docs/reference/settings.md`.

A setting is an environment variable. A secret may come from a file instead: `GOODFAITH_X_FILE` names the file with
`GOODFAITH_X`, and `GOODFAITH_SECRETS_DIR` a folder of such files, named like the variable or like the setting in
lower case. Secrets from files are read again for each new connection. An empty variable counts as not set.
`goodfaith settings` prints the settings in force, with secrets masked.
"""


def document() -> str:
    """The page."""
    lines = [HEAD]
    group = ""
    for name, title in _groups():
        if title != group:
            lines.append(f"\n## {title}\n\n| variable | default | meaning |\n|---|---|---|\n")
            group = title
        field = Settings.model_fields[name]
        default = _text(field.get_default(call_default_factory=True))
        kind = " *Secret.*" if secret_files.is_secret(field) else ""
        lines.append(f"| `GOODFAITH_{name.upper()}` | {default} | {_escaped(field.description or '')}{kind} |\n")
    return "".join(lines)


def _groups() -> list[tuple[str, str]]:
    """Fields in the order of the class, each with the comment that heads its group."""
    found, title = [], "General"
    for line in inspect.getsource(Settings).splitlines():
        if comment := re.fullmatch(r"    # (\w.*)", line):
            title = comment[1][0].upper() + comment[1][1:].rstrip(".")
        elif (field := re.match(r"    ([a-z]\w*):", line)) and field[1] in Settings.model_fields:
            found.append((field[1], title))
    return found


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "" if value in (None, "") else f"`{_escaped(str(value))}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(document())

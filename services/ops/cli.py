"""The `goodfaith` command line.

Building it imports every module of `PANELS`, and each adds its commands. They import heavy packages inside their
commands, to keep `goodfaith --help` fast. The commands of the local stack and of the lab exist only where their
packages are installed; an installation's image has neither.

Exit codes: 0, done as asked; 1, the command found something (``verify``, ``status``, a drill); 2, a mistake in the
command or its settings; 75, something that the command needs does not answer; 130, interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Annotated, Final

import typer
from pydantic import ValidationError

from services.ops.terminal import errors, print_json
from shared.failures import CommandError, Unavailable
from shared.secret_files import SecretFileError
from shared.settings import wrong

PANELS: Final[Mapping[str, tuple[str, ...]]] = {
    "Local stack": ("deploy.local.up", "labs.demo"),
    "Look": (
        "services.ops.claim",
        "services.ops.message",
        "services.ops.standing",
        "services.ops.target",
        "services.observer.top",
        "services.ops.verify.verify",
    ),
    "Operate": (
        "services.ops.migrate",
        "services.ops.token",
        "services.ops.policy",
        "services.ops.dlq",
        "services.ops.statements",
        "services.ops.streams",
        "services.ops.size",
    ),
    "Broker and database": ("services.ops.broker.topics", "services.ops.broker.login", "services.ops.restore.restore"),
    "Personal data and retention": (
        "services.ops.privacy.export",
        "services.ops.privacy.erase",
        "services.ops.privacy.rewrap",
        "services.ops.privacy.feed_key",
        "services.ops.prune",
    ),
}
"""Modules that add commands, by the panel of `goodfaith --help` that lists them."""
LAB: Final = "labs.commands"
HELP: Final = "Operate Goodfaith, the backend of a marketplace's intellectual-property protection programme."


def build() -> typer.Typer:
    """Build the whole command line."""
    app = typer.Typer(
        no_args_is_help=True,
        # no locals in tracebacks: they hold passwords
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=HELP,
    )
    app.callback()(_main)
    for panel, modules in PANELS.items():
        for module in filter(_there, modules):
            part = typer.Typer()
            import_module(module).register(part)
            for command in part.registered_commands:
                command.rich_help_panel = panel
            for group in part.registered_groups:
                group.rich_help_panel = panel
            app.registered_commands += part.registered_commands
            app.registered_groups += part.registered_groups
    if _there(LAB):
        app.add_typer(import_module(LAB).build(), name="lab", rich_help_panel="Local stack")
    return app


def _there(module: str) -> bool:
    package = module.partition(".")[0]
    return find_spec(package) is not None and find_spec(module) is not None


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"goodfaith {version('goodfaith')}")
        raise typer.Exit


def _main(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. Errors that the user can fix are reported in one sentence, without a traceback."""
    try:
        build()()
    except SystemExit as end:
        # typer has printed what is wrong
        if end.code == CommandError.exit_code and "--json" in sys.argv:
            print_json({"error": "wrong usage: see standard error"})
        raise
    except Exception as error:
        found = explain(error)
        if found is None:
            raise
        errors.print(str(found), style="red", markup=False, highlight=False, soft_wrap=True)
        if "--json" in sys.argv:
            print_json({"error": str(found)})
        sys.exit(found.exit_code)


def explain(error: Exception) -> CommandError | None:
    """An error in words for the user, with its exit code; None: nothing that a user can fix, so a bug."""
    import httpx
    import sqlalchemy as sa
    from kafka.errors import KafkaError

    from shared.policy import PolicyError

    match error:
        case CommandError():
            return error
        case SecretFileError() | ValidationError():
            return CommandError(wrong(error))
        case PolicyError():
            return CommandError(str(error))
        case sa.exc.ProgrammingError():
            cure = _CURES.get(getattr(error.orig, "pgcode", ""))
            return None if cure is None else CommandError(f"{_first(error.orig)}: {cure}")
        case sa.exc.OperationalError():
            return Unavailable(f"the database does not answer: {_first(error.orig)}{_HINT}")
        case KafkaError():
            return Unavailable(f"the broker does not answer, or refuses: {_first(error)}{_HINT}")
        case httpx.TransportError() | TimeoutError():
            return Unavailable(f"no answer: {_first(error)}{_HINT}")
        case OSError() if error.filename is not None:
            return CommandError(f"{error.filename}: {error.strerror}")
    return None


_HINT: Final = " (`goodfaith status` shows whether a local stack runs)"
_CURES: Final[Mapping[str, str]] = {
    "3F000": "run `goodfaith migrate`",
    "42P01": "run `goodfaith migrate`",
    "42501": "GOODFAITH_DATABASE must be the URL of an administrator's role",
}
"""By SQLSTATE: what helps if a schema or table is missing, or the role may not read it."""


def _first(error: BaseException | None) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    main()

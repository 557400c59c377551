"""Commands that are imported when they are used and take the same options in any position."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from botswarm.cli.session import Answer, Session

PROFILES = ("development", "staging", "production")


def shared_options(*, hidden: bool) -> list[click.Parameter]:
    """What every command understands, before or after its own name."""
    file = click.Path(path_type=Path, dir_okay=False)
    return [
        click.Option(["--json"], is_flag=True, help="Answer in JSON (same as -o json)."),
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["table", "json"]),
            help="How to answer.",
            hidden=hidden,
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="No warnings or hints.", hidden=hidden),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            help="Debug log lines; tracebacks of errors.",
            hidden=hidden,
        ),
        click.Option(["--no-color"], is_flag=True, help="No colours.", hidden=hidden),
        click.Option(
            ["--config", "config_file"],
            type=file,
            help="Read this file instead of botswarm.toml.",
            hidden=hidden,
        ),
        click.Option(
            ["--profile"],
            type=click.Choice(PROFILES),
            help="Stronger than BOTSWARM_ENV.",
            hidden=hidden,
        ),
        click.Option(
            ["--yes"], is_flag=True, help="Confirm what destroys something.", hidden=hidden
        ),
        click.Option(["--no-input"], is_flag=True, help="Never ask a question.", hidden=hidden),
    ]


class Command(click.Command):
    """Gives the session to the callback, and prints the Answer it returns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += shared_options(hidden=True)

    def invoke(self, ctx: click.Context) -> int:
        session = _session(ctx)
        answer = super().invoke(ctx)
        return session.answer(answer) if isinstance(answer, Answer) else 0


class Group(click.Group):
    """A noun; its verbs are Commands."""

    command_class = Command

    def __init__(self, *args: Any, hide_options: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += shared_options(hidden=hide_options)

    def invoke(self, ctx: click.Context) -> Any:
        _session(ctx)
        return super().invoke(ctx)


class LazyGroup(Group):
    """Knows its commands by name and short help, and imports the one that is called.

    A command lives in the module's attribute of the same name.
    """

    def __init__(self, name: str, table: Mapping[str, tuple[str, str]], *, help: str) -> None:
        super().__init__(name, help=help, hide_options=False)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._table:
            return None
        command = getattr(importlib.import_module(self._table[name][0]), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            # click looks for what may be meant among the commands it has loaded: here, none.
            raise click.exceptions.NoSuchCommand(
                args[0], possibilities=self._table, ctx=ctx
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in self._table.items()])


def _session(ctx: click.Context) -> Session:
    session = ctx.find_object(Session)
    assert session is not None
    session.take(ctx.params)
    return session

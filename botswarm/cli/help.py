"""Explain exit codes, error codes and all commands."""

from __future__ import annotations

from collections.abc import Iterator

import click

from botswarm.cli.command import Group
from botswarm.cli.failures import ERROR_CODES, EXIT_CODES
from botswarm.cli.session import Answer
from botswarm.cli.table import in_columns


@click.group(cls=Group)
def help() -> None:
    """Explain exit codes, error codes and all commands."""


@help.command("exit-codes")
def exit_codes() -> Answer:
    """Print what each exit code means."""
    rows = [(str(code), meaning) for code, meaning in EXIT_CODES.items()]
    return Answer(data=dict(rows), text=in_columns(["EXIT", "MEANING"], rows))


@help.command("error-codes")
def error_codes() -> Answer:
    """Print what each error code means."""
    rows = list(ERROR_CODES.items())
    return Answer(data=dict(rows), text=in_columns(["CODE", "MEANING"], rows))


@help.command("commands")
@click.pass_context
def commands(ctx: click.Context) -> Answer:
    """Print the page that describes every command (docs/commands.md)."""
    page = markdown(ctx.find_root().command)
    return Answer(data={"text": page}, text=page.rstrip("\n"))


@help.command("venue-errors")
def venue_errors() -> Answer:
    """Print what each error of each venue says about an order (docs/venue-errors.md)."""
    from botswarm.exchanges import error_tables

    data = [
        {"venue": table.venue, "table": table.title, "code": code, "name": name, "class": meaning}
        for table in error_tables.TABLES
        for code, name, meaning in table.rows()
    ]
    return Answer(data=data, text=error_tables.markdown().rstrip("\n"))


@help.command("metrics")
def metrics() -> Answer:
    """Print what each metric is, and where it comes from (docs/metrics.md)."""
    from botswarm import metrics as declared

    data = [
        {
            "name": family.name,
            "exposed": list(declared.names_of(family)),
            "kind": family.kind,
            "labels": list(family.label_names),
            "help": family.help,
        }
        for family in declared.METRICS.values()
    ]
    return Answer(data=data, text=metrics_page().rstrip("\n"))


_METRICS = """\
# Metrics

<!-- Written by `botswarm help metrics`; a test fails when it is stale. -->

What each process answers at `/metrics`, under the name that Prometheus knows. How they come about,
and who tells which, is in [health.md](health.md). A counter starts at 0 with its process; sums and
rates are right over restarts. Whoever accepts `application/openmetrics-text`, as Prometheus does,
gets OpenMetrics; all others get the plain text format.

Each process tells besides, under the names that every Python process has with Prometheus' own
client library, and of itself without its children: `process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_start_time_seconds`,
`process_open_fds`, `process_max_fds` (where the system has `/proc`), `python_info`,
`python_gc_collections_total`, `python_gc_objects_collected_total` and
`python_gc_objects_uncollectable_total`.

| metric | kind | labels | what it is |
| --- | --- | --- | --- |
"""


def metrics_page() -> str:
    from botswarm import metrics as declared

    rows = []
    for family in declared.METRICS.values():
        # A histogram is known by its name without the endings.
        name = family.name if family.kind == "histogram" else declared.names_of(family)[0]
        labels = ", ".join(f"`{label}`" for label in family.label_names)
        rows.append(f"| `{name}` | {family.kind} | {labels} | {family.help} |")
    return _METRICS + "\n".join(rows) + "\n"


_INTRODUCTION = """\
# Commands

<!-- Written by `botswarm help commands`; a test fails when it is stale. -->

Answers go to standard output; warnings, hints, log lines and errors to standard error. Nothing is
asked and nothing is coloured unless a terminal is there to see it; `NO_COLOR` and `TERM=dumb` are
honoured. The shared options may stand before or after the command.

With `--json` every command answers with one object: `{"ok": true, "data": …, "warnings": [],
"next": []}`, and when it fails `{"ok": false, "error": {"code": …, "cause": …, "cure": …,
"problems": [{"cause": …, "cure": …}]}}`, on standard output too. A check that found something wrong
answers with `error` and `data` both.
"""


def markdown(root: click.Command) -> str:
    parts = [_INTRODUCTION, _table("Exit codes", EXIT_CODES), _table("Error codes", ERROR_CODES)]
    parts.append(_options(root, title="\n## Shared options\n"))
    for name, command in _walk(root, "botswarm"):
        parts.append(_section(name, command))
    return "".join(parts)


def _table(title: str, rows: dict[int, str] | dict[str, str]) -> str:
    lines = [f"| `{code}` | {meaning} |" for code, meaning in rows.items()]
    return f"\n## {title}\n\n| code | meaning |\n| --- | --- |\n" + "\n".join(lines) + "\n"


def _walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, nouns left out."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for child in command.list_commands(context):
        found = command.get_command(context, child)
        assert found is not None
        yield from _walk(found, f"{name} {child}")


def _section(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    text = "\n\n".join(
        " ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n")
    )
    return f"\n## `{name}`\n\n    {name} {usage}\n\n{text}\n" + _options(command)


def _options(command: click.Command, title: str = "") -> str:
    context = click.Context(command)
    records = [
        record
        for parameter in command.params
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))
        if title or "--json" not in parameter.opts
    ]
    lines = [f"- `{names}`: {help}" for names, help in records]
    return title + "\n" + "\n".join(lines) + "\n" if lines else ""

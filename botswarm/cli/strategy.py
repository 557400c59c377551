"""List the strategies there are, write a new one, and check what is wrong with one."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.command import Group
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.strategies.api import Strategy
    from botswarm.strategies.check.checking import Report
    from botswarm.strategies.registry import Catalog


@click.group(cls=Group)
def strategy() -> None:
    """List strategies, write and check your own."""


@strategy.command("list")
@click.pass_obj
def list_strategies(session: Session) -> Answer:
    """List the built-in strategies, installed plugins and those of the strategies folder."""
    catalog = _catalog(session)
    rows = [
        (name, found.source, _purpose(catalog.get(name))) for name, found in catalog.found.items()
    ]
    data = [{"name": name, "source": source, "purpose": purpose} for name, source, purpose in rows]
    return Answer(
        data=data,
        text=in_columns(["STRATEGY", "FROM", "WHAT IT DOES"], rows),
        warnings=_broken(catalog),
        next=["botswarm strategy show sma-cross"],
    )


@strategy.command("show")
@click.argument("name")
@click.pass_obj
def show_strategy(session: Session, name: str) -> Answer:
    """Print what a strategy does, and its parameters with their bounds."""
    catalog = _catalog(session)
    kind = catalog.get(name)
    parameters: list[dict[str, Any]] = [
        {
            "name": each.name,
            "default": each.default,
            "at_least": each.at_least,
            "at_most": each.at_most,
            "choices": list(each.choices),
            "may_be": each.span,
            "help": each.words,
        }
        for each in kind.parameters()
    ]
    found = catalog.found[name]
    data = {
        "name": name,
        "source": found.source,
        "is_trusted": found.is_trusted,
        "decides_for_many": kind.is_vectorised(),
        **(needs := _needs(kind)),
        "purpose": _purpose(kind),
        "help": inspect.getdoc(kind),
        "timeframe": kind.timeframe,
        "parameters": parameters,
    }
    rows = [
        (each["name"], str(each["default"]), each["may_be"], each["help"]) for each in parameters
    ]
    lines = [inspect.getdoc(kind) or name, _needs_words(needs)]
    lines.append(in_columns(["PARAMETER", "DEFAULT", "MAY BE", "WHAT IT IS"], rows))
    create = f"botswarm bot create NAME --strategy {name} --market BTC-USDT"
    return Answer(data=data, text="\n\n".join(lines), next=[create])


@strategy.command("new")
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write it; the strategies folder of the settings, else ./strategies.",
)
@click.pass_obj
def new_strategy(session: Session, name: str, folder: Path | None) -> Answer:
    """Write the first version of a strategy of your own, with a test that passes."""
    from botswarm.errors import Refused
    from botswarm.strategies.template import write_new

    known = session.settings().strategies_dir
    folder = folder or known or Path("strategies")
    if name in _catalog(session).found:
        raise Refused(f"there is a strategy {name} already", cure="choose another name")
    written = write_new(name, folder)
    next_ = [f"botswarm strategy check {written.strategy}"]
    if known is None or known.resolve() != folder.resolve():
        next_.append(f"export BOTSWARM_STRATEGIES_DIR={folder.resolve()}")
    next_.append(f"botswarm bot create NAME --strategy {name} --market BTC-USDT --start")
    return Answer(
        data={"name": name, "file": str(written.strategy), "test": str(written.test)},
        text=f"{written.strategy} has the strategy {name}, {written.test} its test.",
        next=next_,
    )


@strategy.command("check")
@click.argument("what", metavar="FILE|NAME")
@click.pass_obj
def check_strategy(session: Session, what: str) -> Answer:
    """Find what makes a strategy unfit: look-ahead, impurity, too little history, NaN, and more.

    Its source is read, then its decisions are tried in a process of its own, with bounds on time
    and memory. What was found is named with its line and its cure. Warnings alone are no failure.
    """
    from botswarm.cli.failures import CheckFailed

    report = _report(session, what)
    errors = sum(each.is_error for each in report.findings)
    rows = [
        (
            "error" if each.is_error else "warning",
            each.kind,
            f"{report.path.name}:{each.line}" if each.line else report.path.name,
            each.words,
        )
        for each in report.findings
    ]
    cures = list(dict.fromkeys(f"{each.kind}: {each.cure}" for each in report.findings))
    text = "No fault was found." if not rows else in_columns(["", "FAULT", "WHERE", "WHAT"], rows)
    if cures:
        text += "\n\n" + "\n".join(cures)
    failure = None
    if errors:
        cure = "mend what is listed, then check again"
        failure = CheckFailed(f"{report.name} has {errors} faults", cure=cure)
    data = {
        "name": report.name,
        "file": str(report.path),
        "is_fit": report.is_fit,
        "findings": [each.plain() for each in report.findings],
    }
    return Answer(data=data, text=text, failure=failure)


def _report(session: Session, what: str) -> Report:
    from botswarm.errors import NotFound
    from botswarm.strategies.check.checking import check_file, check_found

    path = Path(what)
    if path.is_file():
        return check_file(path)
    if path.suffix == ".py":
        raise NotFound(f"there is no file {what}", cure="see: botswarm strategy new --help")
    catalog = _catalog(session)
    catalog.get(what)
    return check_found(what, catalog.found[what])


def _needs(kind: type[Strategy]) -> dict[str, Any]:
    """With its defaults; nothing where a stranger's code does not say."""
    try:
        made = kind()
        needs, trigger = made.needs(), made.trigger()
        return {
            "history": made.history,
            "other_timeframes": dict(needs.history),
            "other_markets": list(needs.others),
            "channels": sorted(needs.channels),
            "trigger": trigger.kind,
            "trigger_seconds": trigger.seconds or None,
        }
    except Exception:
        return {}


def _needs_words(needs: dict[str, Any]) -> str:
    if not needs:
        return "What it needs cannot be told: strategy check says what is wrong with it."
    words = f"With its defaults it sees {needs['history']} candles"
    for timeframe, count in needs["other_timeframes"].items():
        words += f", {count} of {timeframe}"
    if needs["other_markets"]:
        words += f", also of {', '.join(needs['other_markets'])}"
    asked = {
        "tick": "whenever the market moves",
        "quote": "when the quote changes",
        "candle": "when a candle closes",
        "timer": f"every {needs['trigger_seconds'] or 0:g} s",
    }
    return f"{words}, and is asked {asked[needs['trigger']]}."


def _catalog(session: Session) -> Catalog:
    from botswarm.strategies.registry import load

    return load(session.settings().strategies_dir)


def _broken(catalog: Catalog) -> list[str]:
    return [f"{source} could not be loaded: {why}" for source, why in catalog.broken.items()]


def _purpose(kind: type[Strategy]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]

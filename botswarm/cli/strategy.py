"""List the strategies there are, and the parameters of each."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from botswarm.cli.command import Group
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns

if TYPE_CHECKING:
    from botswarm.strategies.api import Strategy
    from botswarm.strategies.registry import Catalog


@click.group(cls=Group)
def strategy() -> None:
    """List strategies and their parameters."""


@strategy.command("list")
@click.pass_obj
def list_strategies(session: Session) -> Answer:
    """List the built-in strategies, installed plugins and those of the strategies folder."""
    catalog = _catalog(session)
    rows = [(name, found.source, _purpose(found.strategy)) for name, found in catalog.found.items()]
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
    data = {
        "name": name,
        "source": catalog.found[name].source,
        "purpose": _purpose(kind),
        "help": inspect.getdoc(kind),
        "timeframe": kind.timeframe,
        "parameters": parameters,
    }
    rows = [
        (each["name"], str(each["default"]), each["may_be"], each["help"]) for each in parameters
    ]
    lines = [inspect.getdoc(kind) or name]
    lines.append(in_columns(["PARAMETER", "DEFAULT", "MAY BE", "WHAT IT IS"], rows))
    create = f"botswarm bot create NAME --strategy {name} --market BTC-USDT"
    return Answer(data=data, text="\n\n".join(lines), next=[create])


def _catalog(session: Session) -> Catalog:
    from botswarm.strategies.registry import load

    return load(session.settings().strategies_dir)


def _broken(catalog: Catalog) -> list[str]:
    return [f"{source} could not be loaded: {why}" for source, why in catalog.broken.items()]


def _purpose(kind: type[Strategy]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]

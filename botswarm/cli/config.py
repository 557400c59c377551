"""Show, check and describe the settings."""

from __future__ import annotations

import json
from pathlib import Path

import click

from botswarm.cli.command import Group
from botswarm.cli.failures import WarningsFound
from botswarm.cli.session import Answer, Session
from botswarm.cli.table import in_columns
from botswarm.config import Secret


@click.group(cls=Group)
def config() -> None:
    """Show, check and describe the settings."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value came from.")
@click.pass_obj
def show(session: Session, origin: bool) -> Answer:
    """Print every setting; passwords are hidden."""
    configuration = session.configuration()
    values = {name: _shown(getattr(configuration.settings, name)) for name in configuration.origins}
    if not origin:
        return Answer(data=values, text=in_columns(["SETTING", "VALUE"], list(values.items())))
    data = {
        name: {"value": value, "origin": configuration.origins[name]}
        for name, value in values.items()
    }
    rows = [(name, value, configuration.origins[name]) for name, value in values.items()]
    return Answer(data=data, text=in_columns(["SETTING", "VALUE", "ORIGIN"], rows))


def _shown(value: object) -> object:
    if isinstance(value, Secret):
        return value.masked
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value) if isinstance(value, Path) else value


@config.command("verify")
@click.option("--strict", is_flag=True, help="Fail on warnings too (exit 3).")
@click.pass_obj
def verify(session: Session, strict: bool) -> Answer:
    """Check every setting without starting anything."""
    configuration = session.configuration()
    env, count = configuration.settings.env, len(configuration.warnings)
    failure = None
    if strict and count:
        failure = WarningsFound(
            f"the configuration has {count} warning{'s'[: count > 1]}",
            cure="mend what the warnings name, or leave out --strict",
        )
    data = {"env": env, "settings": len(configuration.origins), "warnings": count}
    text = "" if failure else f"The configuration of {env} is valid."
    return Answer(data=data, text=text, next=["botswarm doctor"], failure=failure)


@config.command("schema")
@click.pass_obj
def schema(session: Session) -> Answer:
    """Print a JSON Schema of botswarm.toml."""
    from botswarm.config.reference import json_schema

    described = json_schema()
    return Answer(data=described, text=json.dumps(described, indent=2))


@config.command("reference")
@click.option("--env-example", is_flag=True, help="Print .env.example instead.")
def reference(env_example: bool) -> Answer:
    """Print the page that describes every setting (docs/configuration.md)."""
    from botswarm.config.reference import env_example as example
    from botswarm.config.reference import markdown

    text = example() if env_example else markdown()
    return Answer(data={"text": text}, text=text.rstrip("\n"))

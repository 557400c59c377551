"""A word that a person has to type before something happens that is hard to take back."""

from __future__ import annotations

import sys

import click

from botswarm.cli.failures import NotConfirmed
from botswarm.cli.session import Session


def have_typed(session: Session, word: str, effect: str) -> None:
    """Scripts say --yes; raises NotConfirmed where nobody does either."""
    if session.yes:
        return
    if session.no_input or session.json or not sys.stdin.isatty():
        raise NotConfirmed(
            f"this would {effect}, and nobody confirmed it",
            cure="if that is meant, add --yes",
        )
    question = f"This would {effect}. Type {word} to go on"
    if click.prompt(question, default="", show_default=False, err=True) != word:
        raise NotConfirmed(f"{word} was not typed: nothing was done", cure="type it, or --yes")

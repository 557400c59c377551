"""``celery -A botswarm dlq``: the dead letters, for people who live in Celery's command line."""

from __future__ import annotations

from typing import NoReturn

import click

from botswarm.cli import main

VERBS = {
    "list": ["queue", "dead"],
    "peek": ["queue", "peek"],
    "requeue": ["queue", "requeue"],
    "purge": ["queue", "purge"],
}


@click.command(
    "dlq", context_settings={"ignore_unknown_options": True}, short_help="Work on dead letters."
)
@click.argument("verb", type=click.Choice(list(VERBS)))
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def dlq(verb: str, words: tuple[str, ...]) -> NoReturn:
    """Work on the dead letters: list, peek QUEUE, requeue QUEUE, purge QUEUE.

    The same commands as ``botswarm queue dead|peek|requeue|purge``, with the same options; QUEUE
    is the queue whose letters are meant, such as orders.
    """
    main([*VERBS[verb], *(_dead(word, verb) for word in words)])


def _dead(word: str, verb: str) -> str:
    from botswarm.queueing.table import BY_NAME

    row = BY_NAME.get(word)
    return row.dead if row is not None and row.dead is not None and verb != "list" else word

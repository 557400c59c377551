"""The command line: the entrance that reads the environment, and the one place errors are shown."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from botswarm.cli.command import LazyGroup
from botswarm.cli.session import Session
from botswarm.cli.urgency import hurry
from botswarm.errors import BotswarmError

URGENT = "emergency-stop"

# The short help stands here so that the list of commands imports none of them.
COMMANDS = {
    "account": ("botswarm.cli.account", "Keep exchange keys, test them, and see balances."),
    "backup": ("botswarm.cli.backup", "Save the ledger, try that out, and bring it back."),
    "alert": ("botswarm.cli.alert", "See what is wrong, silence it, and try who is told."),
    "bench": ("botswarm.cli.bench", "Measure how fast this machine runs the engine."),
    "bot": ("botswarm.cli.bot", "Create bots, start and stop them, and ask them why."),
    "broker": ("botswarm.cli.broker", "Run the embedded AMQP broker, or look at it."),
    "chaos": ("botswarm.cli.chaos", "Break things on purpose, and judge what came of it."),
    "completion": ("botswarm.cli.completion", "Print the completion script of a shell."),
    "config": ("botswarm.cli.config", "Show, check and describe the settings."),
    "db": ("botswarm.cli.db", "Create and upgrade the ledger's tables."),
    "doctor": ("botswarm.cli.doctor", "Check this machine and every server that is configured."),
    "down": ("botswarm.cli.up", "Stop the swarm that runs on this machine."),
    "feed": ("botswarm.cli.prices", "Look at the feed and what it says, and at frames in files."),
    "health": ("botswarm.cli.health", "Ask every process of this machine how it is."),
    "help": ("botswarm.cli.help", "Explain exit codes, error codes and all commands."),
    "ledger": ("botswarm.cli.ledger", "Check the ledger, hold it against venues, and export it."),
    "logs": ("botswarm.cli.logs", "Read the log files of all processes as one, and check them."),
    "ps": ("botswarm.cli.up", "List the swarm's processes on this machine."),
    "order": ("botswarm.cli.order", "Place, cancel and list orders, and ask them why."),
    "position": ("botswarm.cli.position", "List what the bots hold, and close it."),
    "queue": ("botswarm.cli.queue", "List, look into and empty the broker's queues."),
    "report": ("botswarm.cli.report", "See what days came to."),
    "risk": ("botswarm.cli.risk", "See what may be risked and what is; change the limits."),
    "run": ("botswarm.cli.run", "Run one process of the swarm in the foreground."),
    "schedule": ("botswarm.cli.schedule", "See what is sent periodically, run it now, pause it."),
    "runbook": ("botswarm.cli.runbook", "Print what to do about an alert, or with a command."),
    "secrets": ("botswarm.cli.secrets", "Make and change the master key of exchange keys."),
    "strategy": ("botswarm.cli.strategy", "List strategies, write and check your own."),
    "status": ("botswarm.cli.status", "Say on one screen how the swarm is."),
    "trade": ("botswarm.cli.trade", "List trades, and export them."),
    "task": ("botswarm.cli.task", "List the tasks there are, and run one from the shell."),
    "up": ("botswarm.cli.up", "Run the whole swarm on this machine."),
    "trading": ("botswarm.cli.trading", "See whether orders may be sent, halt and resume."),
    "version": ("botswarm.cli.version", "Print the version."),
}

botswarm = LazyGroup(
    "botswarm",
    COMMANDS,
    help="A swarm of crypto trading bots as a distributed task system on Celery and RabbitMQ.",
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    words = sys.argv[1:] if arguments is None else list(arguments)
    if URGENT in words:
        # Before its modules are imported: on a busy machine that takes most of the time.
        hurry()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name in another encoding is better shown escaped than not at all.
        sys.stdout.reconfigure(errors="backslashreplace")
    session = Session(environ=os.environ)
    # Known before the words are parsed, because parsing them may be what fails.
    session.json = _asks_for_json(words)
    try:
        code = botswarm.main(words, prog_name="botswarm", standalone_mode=False, obj=session)
        sys.exit(code if isinstance(code, int) else 0)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.UsageError as error:
        sys.exit(session.usage_error(error))
    except click.ClickException as error:
        sys.exit(session.failed(BotswarmError(error.format_message())))
    except BotswarmError as error:
        sys.exit(session.failed(error))
    except BrokenPipeError:
        session.reader_left()
    except UnicodeEncodeError as error:
        if not any(_is_half_read(word) for word in words):
            sys.exit(session.unexpected(error))
        sys.exit(session.usage_error(click.UsageError("a word of it is not UTF-8")))
    except Exception as error:
        sys.exit(session.unexpected(error))


def _is_half_read(word: str) -> bool:
    """Bytes that are no character stand in it, as the shell gave them."""
    return any("\ud800" <= each <= "\udfff" for each in word)


def _asks_for_json(words: Sequence[str]) -> bool:
    pairs = zip(["", *words], words, strict=False)
    return any(
        word in ("--json", "-ojson", "--output=json")
        or (word == "json" and before in ("-o", "--output"))
        for before, word in pairs
    )

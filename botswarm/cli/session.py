"""One run of the command line: the options that hold for every command, and how it answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from botswarm.cli.failures import code_of
from botswarm.errors import BotswarmError, Misconfigured, Problem, Unreachable

if TYPE_CHECKING:
    from botswarm.config import Configuration, Settings

INDENTED_MAX = 1000
READER_LEFT = 141  # what a shell reports for a program that SIGPIPE ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command found: ``data`` for programs, ``text`` for people."""

    data: object
    text: str = ""
    warnings: Sequence[str] = ()
    next: Sequence[str] = ()
    failure: BotswarmError | None = None
    """Set where the work was done but its result is bad news: the exit code is its."""


@dataclass(slots=True, kw_only=True)
class Session:
    environ: Mapping[str, str]
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    no_color: bool = False
    config_file: Path | None = None
    profile: str | None = None
    yes: bool = False
    no_input: bool = False
    warnings: list[str] = field(default_factory=list)

    def take(self, options: dict[str, Any]) -> None:
        """Remove the options every command has from ``options`` and remember those given."""
        if options.pop("output", None) == "json":
            self.json = True
        for name in ("json", "quiet", "no_color", "yes", "no_input"):
            if options.pop(name, None):
                setattr(self, name, True)
        self.verbose += options.pop("verbose", None) or 0
        for name in ("config_file", "profile"):
            if (value := options.pop(name, None)) is not None:
                setattr(self, name, value)

    # --- settings ------------------------------------------------------------------------

    def configuration(self, **flags: tuple[str, object]) -> Configuration:
        """The settings and where they came from; ``flags`` are those of the command itself."""
        from botswarm.config import load

        given = {
            name: (flag, str(value)) for name, (flag, value) in flags.items() if value is not None
        }
        if self.profile is not None:
            given["env"] = ("--profile", self.profile)
        configuration = load(
            environ=self.environ,
            flags=given,
            config_file=self.config_file,
            embedded_broker=_embedded_broker,
        )
        self.warnings += [str(warning) for warning in configuration.warnings]
        return configuration

    def settings(self, **flags: tuple[str, object]) -> Settings:
        return self.configuration(**flags).settings

    def progress(self, line: str) -> None:
        """What goes on, for whoever waits at a terminal; a program reads the answer alone."""
        if not self.json and not self.quiet:
            click.echo(line, err=True)

    # --- answers -------------------------------------------------------------------------

    @property
    def color(self) -> bool | None:
        """None leaves it to click: colour on a terminal, none elsewhere."""
        if self.no_color or self.environ.get("NO_COLOR") or self.environ.get("TERM") == "dumb":
            return False
        return True if self.environ.get("FORCE_COLOR") else None

    def answer(self, answer: Answer) -> int:
        failure = answer.failure
        warnings = [*self.warnings, *answer.warnings]
        if self.json:
            envelope: dict[str, object] = {"ok": failure is None, "data": answer.data}
            if failure is not None:
                envelope["error"] = _described(failure)
            self._print_json({**envelope, "warnings": warnings, "next": list(answer.next)})
        else:
            if answer.text:
                self._print(answer.text)
            self._note("Warning:", warnings, "yellow")
            if failure is not None:
                self._print_failure(failure)
            self._note("Next:", answer.next, "cyan")
        return failure.exit_code if failure is not None else 0

    def failed(self, error: BotswarmError) -> int:
        if self.verbose:
            self._print_traceback(error)
        if self.json:
            self._print_json({"ok": False, "error": _described(error)})
        else:
            self._print_failure(error)
        return error.exit_code

    def usage_error(self, error: click.UsageError) -> int:
        command = error.ctx.command_path if error.ctx else "botswarm"
        message, cure = error.format_message().rstrip("."), f"see: {command} --help"
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.format_message(), err=True)
            return 2
        self.failed(_Usage(message, cure=cure))
        return 2

    def unexpected(self, error: Exception) -> int:
        """A defect: one line for the user, the traceback in a file for whoever mends it."""
        where = _keep_traceback(error)
        cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        defect = _Defect(_masked(cause), cure=f"the traceback is in {where}")
        defect.__cause__ = error
        return self.failed(defect)

    def reader_left(self) -> NoReturn:
        """Whoever read our output has gone: nobody is left to tell anything to."""
        # The interpreter flushes standard output once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_LEFT)

    # --- printing ------------------------------------------------------------------------

    def _print(self, text: str) -> None:
        try:
            click.echo(text, color=self.color)
            if sys.stdout is not None:  # it may have been closed by who started us
                sys.stdout.flush()
        except BrokenPipeError:
            self.reader_left()
        except OSError as error:
            # What was not written would be tried again, and fail again, on the way out.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Unreachable(
                f"the answer cannot be written: {error.strerror}",
                cure="write it where there is room; what was asked for is done",
            ) from error

    def _print_json(self, envelope: Mapping[str, object]) -> None:
        data = envelope.get("data")
        # Nobody reads thousands of entries by eye, and indenting them takes longer than all else.
        indent = None if isinstance(data, list) and len(data) > INDENTED_MAX else 2
        self._print(json.dumps(envelope, indent=indent, ensure_ascii=False, default=str))

    def _print_failure(self, error: BotswarmError) -> None:
        label = click.style(f"Error [{code_of(error)}]", fg="red", bold=True)
        for problem in _problems(error):
            line = f"{problem.cause}; {problem.cure}" if problem.cure else problem.cause
            click.echo(f"{label} {line}", err=True, color=self.color)

    def _print_traceback(self, error: BaseException) -> None:
        import traceback

        lines = traceback.format_exception(error)
        click.echo(_masked("".join(lines)), err=True, nl=False)

    def _note(self, label: str, lines: Sequence[str], colour: str) -> None:
        if self.quiet:
            return
        for line in lines:
            click.echo(f"{click.style(label, fg=colour)} {line}", err=True, color=self.color)


class _Usage(BotswarmError):
    exit_code = 2


class _Defect(BotswarmError):
    code = "BSW-1001"


def _masked(text: str) -> str:
    from botswarm.config import mask_urls

    return mask_urls(text)


def _problems(error: BotswarmError) -> Sequence[Problem]:
    return getattr(error, "problems", None) or [Problem(error.cause, error.cure)]


def _described(error: BotswarmError) -> dict[str, object]:
    described: dict[str, object] = {"code": code_of(error)}
    if isinstance(error, Misconfigured):
        count = len(error.problems)
        described["cause"] = f"the configuration has {count} problem{'s'[: count > 1]}"
        described["cure"] = "mend them, then run: botswarm config verify"
    else:
        described |= {"cause": error.cause, "cure": error.cure}
    listed = [{"cause": each.cause, "cure": each.cure} for each in _problems(error)]
    return {**described, "problems": listed}


def _keep_traceback(error: Exception) -> str:
    import tempfile
    import traceback

    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="botswarm-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(_masked("".join(traceback.format_exception(error))))
            return file.name
    except OSError:
        return "no file: none could be written (-v prints it)"


def _embedded_broker(state_dir: Path) -> Mapping[str, str] | None:
    from botswarm.broker.record import addresses

    return addresses(state_dir)

"""What can go wrong, sorted by what the caller should do about it."""

from __future__ import annotations

from typing import ClassVar


class BotswarmError(Exception):
    """Base of every error this project raises on purpose.

    ``cure`` is one sentence that tells the person on call what to do next; the command
    line prints it after the cause and ends with ``exit_code``.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, *, cure: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.cure = cure


class NotFound(BotswarmError):
    """What was named does not exist: check the name."""

    exit_code = 4


class Unreachable(BotswarmError):
    """A server, port or file that the work needs cannot be used: mend that, then try again."""

    exit_code = 5


class Refused(BotswarmError):
    """A safety gate said no: the request is not allowed here, however often it is made."""

    exit_code = 6


class TimedOut(BotswarmError):
    """The work did not finish in the time it was given: it may still be going on."""

    exit_code = 7


class Malformed(BotswarmError):
    """Something came in that cannot be read: count it, leave it out, go on with the next."""


class Misconfigured(BotswarmError):
    """The process cannot start; ``problems`` names everything that is wrong, at once."""

    exit_code = 8

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class Problem:
    """One thing that is wrong with the configuration, and its cure."""

    __slots__ = ("cause", "cure")

    def __init__(self, cause: str, cure: str) -> None:
        self.cause = cause
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.cause} ({self.cure})"

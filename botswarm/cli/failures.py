"""What an exit code and an error code mean: the tables the command line answers from."""

from __future__ import annotations

from botswarm.errors import BotswarmError, NotFound, Refused, Unreachable

EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "the command line was not understood",
    3: "a check failed",
    4: "what was named does not exist",
    5: "a server, port or file that is needed cannot be used",
    6: "refused by a safety gate",
    7: "not finished in the time it was given",
    8: "the configuration is invalid",
    130: "interrupted",
}

ERROR_CODES = {
    "BSW-1000": "the work failed",
    "BSW-1001": "a defect of botswarm: the traceback is in the file that the message names",
    "BSW-2000": "the command line was not understood",
    "BSW-3000": "a check failed",
    "BSW-3001": "the configuration is valid, but there are warnings and --strict was given",
    "BSW-3002": "the books do not balance, or something in them was changed",
    "BSW-3003": "a part of the swarm is missing",
    "BSW-3004": "an account does not agree with its venue, or nobody has compared the two",
    "BSW-3005": "a backup is not what was written",
    "BSW-3006": "there is no good backup, or it is too old",
    "BSW-3007": "bringing the ledger back takes too long, or would lose too much",
    "BSW-3020": "the log files hold more errors, or other trouble, than they should",
    "BSW-3021": "log lines were put away before they were carried to the archive of logs",
    "BSW-3022": "some of what was fetched from the archive of logs cannot be read",
    "BSW-4000": "what was named does not exist",
    "BSW-4001": "the broker has no queue of that name",
    "BSW-5000": "a server, port or file that is needed cannot be used",
    "BSW-5001": "no broker is configured and none runs here",
    "BSW-5002": "the broker cannot be reached, or does not let this user in",
    "BSW-5003": "the broker's management API cannot be reached, or does not let this user in",
    "BSW-5004": "at least one configured server cannot be reached",
    "BSW-6000": "refused by a safety gate",
    "BSW-6001": "the command destroys something and was not confirmed",
    "BSW-6002": "the embedded broker does not run in production",
    "BSW-7000": "not finished in the time it was given",
    "BSW-8000": "the configuration is invalid; each problem has its own line",
}


def code_of(error: BotswarmError) -> str:
    """The code an error carries itself, else the general one of its exit code."""
    own = getattr(error, "code", None)
    return own if isinstance(own, str) else f"BSW-{error.exit_code}000"


class CheckFailed(BotswarmError):
    """The command did its work, and what it looked at is not as it should be."""

    exit_code = 3


class LogsBad(CheckFailed):
    code = "BSW-3020"


class LogsLost(CheckFailed):
    code = "BSW-3021"


class LogsDamaged(CheckFailed):
    code = "BSW-3022"


class WarningsFound(CheckFailed):
    code = "BSW-3001"


class BooksWrong(CheckFailed):
    code = "BSW-3002"


class PartsMissing(CheckFailed):
    code = "BSW-3003"


class NotReconciled(CheckFailed):
    code = "BSW-3004"


class BackupsDamaged(CheckFailed):
    code = "BSW-3005"


class BackupTooOld(CheckFailed):
    code = "BSW-3006"


class DrillFailed(CheckFailed):
    code = "BSW-3007"


class QueueNotFound(NotFound):
    code = "BSW-4001"


class NoBroker(Unreachable):
    code = "BSW-5001"


class BrokerUnreachable(Unreachable):
    code = "BSW-5002"


class ManagementUnreachable(Unreachable):
    code = "BSW-5003"


class ServerUnreachable(Unreachable):
    code = "BSW-5004"


class NotConfirmed(Refused):
    code = "BSW-6001"


class NotInProduction(Refused):
    code = "BSW-6002"

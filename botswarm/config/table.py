"""The table of settings: name, kind, default, where it is read from and one sentence of help."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from botswarm.config import urls
from botswarm.config.answering import WATCHED
from botswarm.config.backups import backup_settings
from botswarm.config.endpoints import ENDPOINTS
from botswarm.config.feeding import FEED, VENUE
from botswarm.config.flower import FLOWER
from botswarm.config.kinds import Kind, Setting, choice, whole_number
from botswarm.config.ledger import ledger_settings
from botswarm.config.limiting import LIMITS
from botswarm.config.logging import log_settings
from botswarm.config.notifying import NOTIFYING
from botswarm.config.paper import PAPER
from botswarm.config.running import BOTS
from botswarm.config.secret import Secret
from botswarm.config.sweeping import SWEEPING
from botswarm.config.telemetry import TELEMETRY
from botswarm.errors import Problem


def _plain_text(text: str) -> object:
    if re.fullmatch(r"[!-~]{1,256}", text):
        return Secret(text)
    return Problem("holds a blank or a strange character", "copy it again, without quotes")


def _path(objection: Callable[[Path], Problem | None], words: str) -> Kind:
    """A path as a person writes it; what stands there already may be an objection."""

    def read(text: str) -> object:
        try:
            path = Path(text).expanduser()
            problem = objection(path)
        except RuntimeError:
            problem = Problem("and that user has no home folder", "write the whole path")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            problem = Problem(f"which cannot be used: {reason}", f"name {words} that can be used")
        return Problem(f"is {text!r}, {problem.cause}", problem.cure) if problem else path

    return Kind(read=read, schema={"type": "string"}, words=words)


def _no_folder(path: Path) -> Problem | None:
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            what = "which is a file" if part == path else f"and {part} is a file"
            return Problem(what, "name a folder, or one that may be created")
    return None


def _no_log_file(path: Path) -> Problem | None:
    if path.is_dir():
        return Problem("which is a folder", "name a file in it")
    if not path.parent.is_dir():
        return Problem("in a folder that does not exist", "create the folder first")
    # Found out now and said like every other problem, not at the first log line.
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return Problem("which is not writable", "change its permissions or name another file")
    return None


def _instance_id(text: str) -> object:
    if re.fullmatch(r"[A-Za-z0-9_.:@-]{1,128}", text):
        return text
    return Problem(
        "is not a plain name", "use up to 128 letters, digits and the characters _ . : @ -"
    )


def _url(read: Callable[[str], str | Problem], words: str) -> Kind:
    def read_secret(text: str) -> object:
        url = read(text)
        return url if isinstance(url, Problem) else Secret(url)

    return Kind(read=read_secret, schema={"type": "string", "format": "uri"}, words=words)


def _same_server(one: str, other: str) -> bool:
    """Platforms that set both names mean one server's plain and encrypted port."""
    host = re.compile(r"[a-z]+://(?:[^@]*@)?([^:/?]*)", re.I)
    hosts = [match and match[1] for match in (host.match(one), host.match(other))]
    return hosts[0] is not None and hosts[0] == hosts[1]


def _default_instance_id(_: Mapping[str, object]) -> str:
    return os.uname().nodename or "localhost"


def _default_database_url(settings: Mapping[str, object]) -> Secret:
    state_dir = settings["state_dir"]
    assert isinstance(state_dir, Path)
    return Secret(f"sqlite:///{state_dir.absolute() / 'ledger.db'}")


_PORT = whole_number(1, 65535, "")

# Named here so that a misspelt one is reported with all other problems; a test holds it to the
# table of queues.
QUEUES = ("strategy", "orders", "risk", "ops", "backtest")
CAP_MAX = 1000


def _caps(text: str) -> object:
    caps: dict[str, int] = {}
    for pair in text.replace(" ", "").split(","):
        name, _, number = pair.partition("=")
        if name not in QUEUES:
            cure = f"write orders=4,ops=2; the queues are {', '.join(QUEUES)}"
            return Problem(f"names the queue {name!r}, which does not exist", cure)
        if not (number.isascii() and number.isdecimal() and 0 < int(number[:9]) <= CAP_MAX):
            cure = f"write {name}= and a whole number from 1 to {CAP_MAX}"
            return Problem(f"gives {name} the cap {number!r}", cure)
        caps[name] = int(number)
    return caps


_CAPS = Kind(
    read=_caps, schema={"type": "string"}, words="queue=number pairs, such as orders=4,ops=2"
)


def _markets(text: str) -> object:
    names = [name.strip() for name in text.split(",") if name.strip()]
    markets = []
    for name in names:
        venue, colon, symbol = name.rpartition(":")
        if not re.fullmatch(r"[^\s/:@,-]{1,20}-[^\s/:@,-]{1,20}", symbol) or (
            colon and not re.fullmatch(VENUE, venue.lower())
        ):
            return Problem(f"holds {name!r}, which is no market", "write BTC-USDT,kraken:BTC-USD")
        markets.append(f"{venue.lower()}{colon}{symbol.upper()}")
    return tuple(dict.fromkeys(markets))


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="env",
        kind=choice("development", "staging", "production"),
        help="Which profile this is; it decides other defaults, and production refuses whatever "
        "is only fit for one machine.",
        default="development",
    ),
    Setting(
        name="state_dir",
        kind=_path(_no_folder, "a folder"),
        help="Where a single machine keeps its state: the embedded broker's journal and address, "
        "and the SQLite ledger.",
        default=Path(".botswarm"),
    ),
    Setting(
        name="instance_id",
        kind=Kind(read=_instance_id, schema={"type": "string"}, words="a plain name"),
        help="The name this machine or container gives itself in every log line.",
        default=_default_instance_id,
        default_words="the host's name",
        conventional=("INSTANCE_ID",),
    ),
    Setting(
        name="broker_url",
        kind=_url(urls.broker_url, "amqp:// or amqps:// URL"),
        help="The RabbitMQ server; without it the embedded broker of the state folder is used.",
        default_words="the embedded broker, where one has been started",
        conventional=(
            "CLOUDAMQP_URL",
            "RABBITMQ_URL",
            "AMQP_URL",
            "BROKER_URL",
            "CELERY_BROKER_URL",
        ),
        secret=True,
    ),
    Setting(
        name="broker_management_url",
        kind=_url(urls.management_url, "http:// or https:// URL"),
        help="The RabbitMQ server's management API; without it queues are asked for by name.",
        default_words="the embedded broker's, where that one is used",
        secret=True,
    ),
    Setting(
        name="broker_port",
        kind=_PORT,
        help="The port the embedded broker listens on, on 127.0.0.1 only.",
        default_words="that of its last run, else 5672 or the next free one",
    ),
    Setting(
        name="broker_management_port",
        kind=_PORT,
        help="The port of the embedded broker's management API, on 127.0.0.1 only.",
        default_words="that of its last run, else 15672 or the next free one",
    ),
    Setting(
        name="broker_fsync",
        kind=choice("always", "interval", "never"),
        help="When the embedded broker forces its journal to the disk: before each confirm, about "
        "once a second, or when the operating system likes; only a power cut tells them apart.",
        default="interval",
    ),
    Setting(
        name="broker_memory_high_mb",
        kind=whole_number(1, 1_048_576, "MB"),
        help="The embedded broker blocks publishers while messages in memory weigh more than this.",
        default=512,
    ),
    Setting(
        name="broker_disk_free_low_mb",
        kind=whole_number(0, 1_048_576, "MB"),
        help="The embedded broker blocks publishers while the disk has less room than this.",
        default=50,
    ),
    Setting(
        name="broker_consumer_timeout_s",
        kind=whole_number(1, 604_800, "seconds"),
        help="The embedded broker closes a channel whose delivery stays unacknowledged this long.",
        default=1800,
    ),
    Setting(
        name="worker_caps",
        kind=_CAPS,
        help="How many tasks of a queue one worker runs at once, where it is not the default.",
        default_words="strategy=4,orders=4,risk=1,ops=2,backtest=1",
    ),
    Setting(
        name="swarm_caps",
        kind=_CAPS,
        help="How many tasks of a queue all workers together run at once, whatever their number.",
        default_words="orders=8,risk=2; the other queues have none",
    ),
    Setting(
        name="database_url",
        kind=_url(urls.database_url, "postgresql:// or sqlite:/// URL"),
        help="The database of the ledger; postgres:// is understood too.",
        default=_default_database_url,
        default_words="the file ledger.db in the state folder (SQLite)",
        conventional=("DATABASE_URL",),
        secret=True,
    ),
    *ledger_settings(_url(urls.postgresql_url, "postgresql:// URL")),
    Setting(
        name="redis_url",
        kind=_url(urls.redis_url, "redis:// or rediss:// URL"),
        help="The Redis server for live prices and for sharing venues' limits between machines; "
        "everything in it may be lost at any time.",
        default_words="none: everything works without Redis",
        conventional=("REDIS_TLS_URL", "REDIS_URL"),
        agree=_same_server,
        secret=True,
    ),
    Setting(
        name="address_name",
        kind=Kind(read=_instance_id, schema={"type": "string"}, words="a plain name"),
        help="A name for the address from which this machine reaches venues: machines of one name "
        "share over Redis what a venue allows one address.",
        default="shared",
    ),
    Setting(
        name="exchange_port",
        kind=_PORT,
        help="The port the simulated exchange listens on, on 127.0.0.1 only.",
        default_words="that of its last run, else 18443 or the next free one",
    ),
    Setting(
        name="exchange_scenario",
        kind=choice("calm", "trend", "flash-crash", "feed-outage"),
        help="What the simulated market goes through.",
        default="calm",
    ),
    Setting(
        name="exchange_seed",
        kind=whole_number(0, 999_999_999, ""),
        help="The simulated market moves the same way at the same time for the same seed.",
        default=1,
    ),
    Setting(
        name="exchange_orders_per_10s_max",
        kind=whole_number(1, 1_000_000, "orders"),
        help="The simulated exchange refuses further orders of an account for the rest of ten "
        "seconds, as Binance does; raise it to measure throughput.",
        default=100,
    ),
    *PAPER,
    Setting(
        name="master_key",
        kind=Kind(read=_plain_text, schema={"type": "string"}, words="32 bytes in base64"),
        help="The key that wraps the exchange keys kept in the ledger; better given as a file.",
        default_words="the file master.key in the state folder; production has no default",
        secret=True,
    ),
    Setting(
        name="binance_api_key",
        kind=Kind(read=_plain_text, schema={"type": "string"}, words="an API key"),
        help="The key of a Binance account for spot trading; without it orders go to the "
        "simulated exchange of the state folder.",
        default_words="none: the simulated exchange",
        secret=True,
    ),
    Setting(
        name="binance_api_secret",
        kind=Kind(read=_plain_text, schema={"type": "string"}, words="an API secret"),
        help="The secret that belongs to the key (HMAC).",
        secret=True,
    ),
    *ENDPOINTS,
    Setting(
        name="feed_markets",
        kind=Kind(
            read=_markets,
            schema={"type": "string"},
            words="markets, such as BTC-USDT,kraken:ETH-USD",
        ),
        help="Markets the feed follows whether or not a bot runs in them, at every venue or at "
        "the one before the colon; it finds those of running bots by itself.",
        default=("BTC-USDT", "ETH-USDT", "SOL-USDT"),
    ),
    *FEED,
    Setting(
        name="feed_record_dir",
        kind=_path(_no_folder, "a folder"),
        help="The feed writes every frame it receives into files in this folder, to be read with "
        "botswarm feed normalise and feed replay.",
        default_words="none: nothing is recorded",
    ),
    Setting(
        name="feed_record_max_mb",
        kind=whole_number(16, 10_000_000, "MB"),
        help="How much of a venue's frames one run of the feed keeps there; its oldest file goes "
        "first. Files of earlier runs stay until somebody removes them.",
        default=4096,
    ),
    *WATCHED,
    *LIMITS,
    *SWEEPING,
    Setting(
        name="cancel_on_disconnect_s",
        kind=whole_number(0, 3600, "seconds"),
        help="When an order worker has been without ledger or broker for so long, or when no order "
        "worker has been well, everything open is cancelled at the venue; 0 lets it rest. Ten "
        "seconds or more are sensible.",
        default=0,
    ),
    *BOTS,
    *NOTIFYING,
    *backup_settings(
        _path(_no_folder, "a folder"),
        Kind(read=_plain_text, schema={"type": "string"}, words="a key"),
    ),
    *FLOWER,
    Setting(
        name="strategies_dir",
        kind=_path(_no_folder, "a folder"),
        help="A folder of Python files with strategies of your own; workers read it at their "
        "start.",
        default_words="none: the built-in strategies and installed plugins",
    ),
    Setting(
        name="log_level",
        kind=choice("debug", "info", "warning", "error", aliases={"warn": "warning"}),
        help="The least important log line that is still written.",
        default="info",
        profile_defaults={"development": "debug"},
        conventional=("LOG_LEVEL",),
    ),
    Setting(
        name="log_format",
        kind=choice("auto", "json", "text"),
        help="How log lines look on standard error; auto is text on a terminal and JSON elsewhere.",
        default="auto",
        conventional=("LOG_FORMAT",),
    ),
    Setting(
        name="log_file",
        kind=_path(_no_log_file, "a file"),
        help="A file that also gets every log line as JSON; processes may share it. "
        "botswarm up writes one for each process in the state folder's logs, without this.",
        default_words="none: standard error only",
        conventional=("LOG_FILE",),
    ),
    *log_settings(_path(_no_folder, "a folder")),
    *TELEMETRY,
)

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}

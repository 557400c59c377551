"""Gather every setting from every source, and report everything that is wrong at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from botswarm.config import dotenv, ledger, urls
from botswarm.config.kinds import Setting
from botswarm.config.secret import Secret, password_of
from botswarm.config.settings import Settings
from botswarm.config.table import BY_NAME, SETTINGS
from botswarm.errors import Misconfigured, Problem

PREFIX = "BOTSWARM_"
TOML = "botswarm.toml"
PLACEHOLDERS = frozenset(
    ("changeme", "change-me", "change_me", "password", "passwd", "secret", "guest", "admin")
) | frozenset(
    ("default", "example", "placeholder", "todo", "xxx", "postgres", "redis", "rabbitmq", "test")
)


@dataclass(frozen=True, slots=True)
class Found:
    """A value as it was written, and where: enough for a person to go and mend it."""

    text: str
    name: str
    where: str
    toml_type: str = ""

    @property
    def place(self) -> str:
        return self.name if self.where in _UNSAID else f"{self.name} ({self.where})"

    @property
    def origin(self) -> str:
        return f"{self.where}: {self.name}"


_UNSAID = ("environment", "command line")


@dataclass(frozen=True, slots=True)
class Configuration:
    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[Problem, ...]


EmbeddedBroker = Callable[[Path], Mapping[str, str] | None]
"""The embedded broker's addresses by setting name, given the state folder."""


@dataclass(slots=True)
class _Sources:
    """The layers that one setting's value is looked for in, strongest first."""

    flags: Mapping[str, Found]
    variables: list[tuple[str, Mapping[str, Found]]]
    toml: Mapping[str, Found]
    problems: list[Problem]

    def find(self, setting: Setting) -> Found | None:
        if found := self.flags.get(setting.name):
            return found
        # Files that a variable points at come after every plain variable of the environment, and
        # the environment as a whole before the .env files.
        for where, names in self.variables:
            found = (
                names.get(setting.variable)
                or self._conventional(setting, names, where)
                or self._from_file(setting, names)
            )
            if found:
                return found
        return self.toml.get(setting.name)

    def _conventional(
        self, setting: Setting, names: Mapping[str, Found], where: str
    ) -> Found | None:
        present = [names[name] for name in setting.conventional if name in names]
        if not present:
            return None
        first = present[0]
        for other in present[1:]:
            if other.text != first.text and not setting.agree(first.text, other.text):
                self.problems.append(
                    Problem(
                        f"{first.place} and {other.place} are set to different values",
                        f"unset one of them, or set {setting.variable} to the one that is meant",
                    )
                )
                break
        return first

    def _from_file(self, setting: Setting, names: Mapping[str, Found]) -> Found | None:
        if not setting.secret:
            return None
        for variable in (setting.variable, *setting.conventional):
            pointer = names.get(f"{variable}_FILE")
            if pointer is None:
                continue
            text = _read_text(Path(pointer.text))
            if isinstance(text, Problem):
                cause = f"{pointer.place} names the file {pointer.text}, which {text.cause}"
                self.problems.append(Problem(cause, text.cure))
            elif text.strip():
                return Found(text.strip(), pointer.name, f"file {pointer.text}")
        return None


def load(
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, tuple[str, str]] | None = None,
    config_file: Path | None = None,
    folder: Path = Path(),
    embedded_broker: EmbeddedBroker | None = None,
) -> Configuration:
    """Read all sources; ``flags`` maps a setting to the flag's spelling and its value.

    Raises Misconfigured with every problem there is.
    """
    problems: list[Problem] = []
    sources = _gather(environ, flags or {}, config_file, folder, problems)
    values, origins = _decide(sources, problems)
    if embedded_broker and values["env"] != "production":
        _add_embedded_broker(values, origins, embedded_broker)
    judged = _judge(values, origins)
    # Staging is where production's demands are rehearsed; what it lacks is said, not refused.
    warnings = judged if values["env"] == "staging" else ()
    if values["env"] == "production":
        problems += judged
    problems += _contradictions(values)
    if problems:
        raise Misconfigured(*problems)
    return Configuration(Settings(**values), origins, tuple(warnings))  # type: ignore[arg-type]


def profile_of(
    environ: Mapping[str, str], config_file: Path | None = None, folder: Path = Path()
) -> str | None:
    """The profile the sources ask for, whatever else is wrong with them; None where none does."""
    found = _gather(environ, {}, config_file, folder, []).find(BY_NAME["env"])
    profile = BY_NAME["env"].kind.read(found.text) if found else None
    return profile if isinstance(profile, str) else None


def _gather(
    environ: Mapping[str, str],
    flags: Mapping[str, tuple[str, str]],
    config_file: Path | None,
    folder: Path,
    problems: list[Problem],
) -> _Sources:
    environment = {
        name: Found(text, name, "environment") for name, text in environ.items() if text.strip()
    }
    _check_names(environment, problems)
    common = _read_dotenv(folder / ".env", problems)
    sources = _Sources(
        flags={
            name: Found(text, spelling, "command line") for name, (spelling, text) in flags.items()
        },
        variables=[("environment", environment), (".env", common)],
        toml=_read_toml(config_file, folder, problems),
        problems=problems,
    )
    env = sources.find(BY_NAME["env"])
    if env and BY_NAME["env"].kind.read(env.text) in ("development", "staging", "production"):
        profile = str(BY_NAME["env"].kind.read(env.text))
        own = _read_dotenv(folder / f".env.{profile}", problems)
        _check_profile(own.pop("BOTSWARM_ENV", None), profile, problems)
        sources.variables.insert(1, (f".env.{profile}", own))
    return sources


def _check_profile(found: Found | None, profile: str, problems: list[Problem]) -> None:
    if found and found.text.lower() != profile:
        problems.append(
            Problem(
                f"{found.place} is {found.text!r}, but that file is read for {profile} only",
                f"delete the line, or write {profile}",
            )
        )


def _check_names(found: Mapping[str, Found], problems: list[Problem]) -> None:
    known = {setting.variable for setting in SETTINGS}
    known |= {f"{setting.variable}_FILE" for setting in SETTINGS if setting.secret}
    for name, value in found.items():
        if name.startswith(PREFIX) and name not in known:
            problems.append(_unknown(value, "setting", known))


def _unknown(found: Found, what: str, known: Iterable[str]) -> Problem:
    from difflib import get_close_matches

    close = get_close_matches(found.name, sorted(known), n=1, cutoff=0.6)
    cure = f"did you mean {close[0]}?" if close else "run: botswarm config schema"
    return Problem(f"{found.place} is not a {what} of botswarm", cure)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True  # reading it will say what is wrong


def _read_text(path: Path) -> str | Problem:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Problem("does not exist", "correct the path, or create the file")
    except UnicodeDecodeError:
        return Problem("is not UTF-8 text", "save it as UTF-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not a usable path"
        return Problem(f"cannot be read: {reason}", "correct the path or its permissions")


def _read_dotenv(path: Path, problems: list[Problem]) -> dict[str, Found]:
    if not _is_there(path):
        return {}
    text = _read_text(path)
    if isinstance(text, Problem):
        problems.append(Problem(f"{path} {text.cause}", text.cure))
        return {}
    parsed = dotenv.parse(text, str(path))
    problems += parsed.problems
    found = {
        name: Found(line.value, name, f"{path}:{line.number}")
        for name, line in parsed.values.items()
        if line.value.strip()
    }
    _check_names(found, problems)
    return found


def _read_toml(config_file: Path | None, folder: Path, problems: list[Problem]) -> dict[str, Found]:
    path = config_file or folder / TOML
    if config_file is None and not _is_there(path):
        return {}
    text = _read_text(path)
    if isinstance(text, Problem):
        problems.append(Problem(f"{path} {text.cause}", text.cure))
        return {}
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problems.append(Problem(f"{path} is not TOML: {error}", "correct that line"))
        return {}
    found: dict[str, Found] = {}
    for key, value in table.items():
        item = Found(_as_text(value), key, _line_of(key, text, path), type(value).__name__)
        if key not in BY_NAME:
            problems.append(_unknown(item, "setting", BY_NAME))
        elif isinstance(value, bool | list | dict) or not isinstance(value, str | int | float):
            cure = f"write {key} = {BY_NAME[key].kind.words}"
            problems.append(Problem(f"{item.place} is neither text nor a number", cure))
        elif item.text.strip():
            found[key] = item
    return found


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def _line_of(key: str, text: str, path: Path) -> str:
    for number, line in enumerate(text.split("\n"), start=1):
        start = line.strip().lstrip("[").strip().strip("\"'")
        if start.startswith(key):
            return f"{path}:{number}"
    return str(path)


def _decide(sources: _Sources, problems: list[Problem]) -> tuple[dict[str, object], dict[str, str]]:
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for setting in SETTINGS:
        found = sources.find(setting)
        if found is not None:
            read = setting.kind.read(found.text)
            if not isinstance(read, Problem):
                values[setting.name], origins[setting.name] = read, found.origin
                continue
            problems.append(Problem(f"{found.place} {read.cause}", read.cure))
        values[setting.name], origins[setting.name] = _default(setting, values)
    return values, origins


def _default(setting: Setting, values: Mapping[str, object]) -> tuple[object, str]:
    profile = str(values.get("env", "development"))
    if profile in setting.profile_defaults:
        return setting.profile_defaults[profile], f"default of {profile}"
    default = setting.default
    return (default(values) if callable(default) else default), "default"


def _add_embedded_broker(
    values: dict[str, object], origins: dict[str, str], embedded_broker: EmbeddedBroker
) -> None:
    """Where no broker is named, the one whose address card lies in the state folder is meant."""
    state_dir = values["state_dir"]
    if values["broker_url"] is not None or not isinstance(state_dir, Path):
        return
    for name, url in (embedded_broker(state_dir) or {}).items():
        if values[name] is None:
            values[name] = Secret(url)
            origins[name] = f"embedded broker ({state_dir / 'broker.json'})"


def _contradictions(values: Mapping[str, object]) -> list[Problem]:
    problems = []
    port = values["broker_port"]
    if port is not None and port == values["broker_management_port"]:
        problems.append(
            Problem(
                f"BOTSWARM_BROKER_PORT and BOTSWARM_BROKER_MANAGEMENT_PORT are both {port}",
                "give one of them another port",
            )
        )
    if (values["binance_api_key"] is None) != (values["binance_api_secret"] is None):
        problems.append(
            Problem(
                "one of BOTSWARM_BINANCE_API_KEY and BOTSWARM_BINANCE_API_SECRET is set alone",
                "set both, or none for the simulated exchange",
            )
        )
    problems += ledger.contradictions(values)
    bucket = [values[name] for name in ("backup_s3_access_key", "backup_s3_secret_key")]
    for name in ("backup_s3_url", "log_archive"):
        if str(values[name]).startswith("s3://") and None in bucket:
            problems.append(
                Problem(
                    f"{BY_NAME[name].variable} is set, and not both of its keys",
                    "set BOTSWARM_BACKUP_S3_ACCESS_KEY and BOTSWARM_BACKUP_S3_SECRET_KEY",
                )
            )
    return problems


def _judge(values: Mapping[str, object], origins: Mapping[str, str]) -> list[Problem]:
    """What production refuses: anything fit for one machine only, and anything easy to guess."""
    problems = []
    if values["broker_url"] is None or origins["broker_url"].startswith("embedded"):
        problems.append(
            Problem(
                "no RabbitMQ server is named, and the embedded broker is for one machine",
                "set BOTSWARM_BROKER_URL=amqp://user:password@host:5672/vhost",
            )
        )
    if urls.is_sqlite(values["database_url"]):
        problems.append(
            Problem(
                "no PostgreSQL server is named, and SQLite is for one machine",
                "set BOTSWARM_DATABASE_URL=postgresql://user:password@host:5432/database",
            )
        )
    if values["log_level"] == "debug":
        problems.append(
            Problem(
                f"the log level is debug ({origins['log_level']})",
                "set BOTSWARM_LOG_LEVEL to info or above",
            )
        )
    for setting in SETTINGS:
        secret = values[setting.name]
        if setting.secret and isinstance(secret, Secret):
            problems += _easy_password(setting, secret.reveal(), origins[setting.name])
    return problems


def _easy_password(setting: Setting, url: str, origin: str) -> list[Problem]:
    if origin == "default" or origin.startswith("embedded"):
        return []
    password = unquote(password_of(url))
    cure = "make one, for example with: openssl rand -hex 24"
    if password.lower().strip("<>{}[]") in PLACEHOLDERS:
        return [Problem(f"{setting.variable} has a placeholder for a password ({origin})", cure)]
    if not password and setting.name == "broker_url":
        # Clients fall back to RabbitMQ's well-known guest account then.
        return [Problem(f"{setting.variable} has no password ({origin})", cure)]
    if not password and ":@" in url.partition("://")[2].partition("/")[0]:
        return [Problem(f"{setting.variable} has an empty password ({origin})", cure)]
    return []

"""The settings described for editors, for people and for `cp .env.example .env`."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from textwrap import wrap

from botswarm.config.kinds import Setting
from botswarm.config.secret import Secret
from botswarm.config.table import SETTINGS


def json_schema() -> dict[str, object]:
    """JSON Schema of botswarm.toml."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "botswarm.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {setting.name: _property(setting) for setting in SETTINGS},
    }


def _property(setting: Setting) -> dict[str, object]:
    described: dict[str, object] = {**setting.kind.schema, "description": setting.help}
    if setting.default is not None and not callable(setting.default):
        described["default"] = _plain(setting.default)
    if setting.secret:
        described["writeOnly"] = True
    return described


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return value.masked if isinstance(value, Secret) else value


def default_in_words(setting: Setting) -> str:
    default = setting.default_words or str(_plain(setting.default))
    for profile, value in setting.profile_defaults.items():
        default += f"; in {profile} {_plain(value)}"
    return default


_INTRODUCTION = """\
# Configuration

<!-- Written by `botswarm config reference`; a test fails when it is stale. -->

Every setting has one name and may be set in several places. The strongest wins:

1. a flag of the command,
2. the environment variable `BOTSWARM_<NAME>`,
3. the name platforms and other tools use for the same thing,
4. for secrets, the file that `BOTSWARM_<NAME>_FILE` (or a conventional name with `_FILE`) names,
   as Docker and Kubernetes mount them,
5. `.env.<profile>`, then `.env` in the current folder, by the same names in the same order,
6. `botswarm.toml` in the current folder, or the file given with `--config`,
7. the profile's default, then the default.

An empty value counts as unset. Two conventional names set to different values are an error, unless
`BOTSWARM_<NAME>` decides between them; `REDIS_TLS_URL` and `REDIS_URL` may stand side by side when
they name one host. A `BOTSWARM_` variable or a key that does not exist is an error, so a typing
mistake never silently means the default. Everything that is wrong is reported at once.

- `botswarm config show --origin` prints each value and where it came from; passwords are hidden.
- `botswarm config verify` checks everything without starting anything; `--strict` also fails on
  warnings.
- `botswarm config schema` prints a JSON Schema of `botswarm.toml` for editors.

`.env` holds `NAME=value` lines, `#` comments and an optional `export`. Values may stand in
`'single quotes'` (taken literally) or `"double quotes"` (with `\\n`, `\\t`, `\\"`, `\\\\` and
`\\$`). Variables are not expanded.

## Profiles

`BOTSWARM_ENV`, or `--profile`, chooses `development` (the default), `staging` or `production`.
Production refuses to start without a RabbitMQ server and a PostgreSQL database, on the embedded
broker, with the log level `debug`, and with passwords that are empty or placeholders such as
`changeme`. Staging warns of the same things.

## Settings
"""


def markdown() -> str:
    return _INTRODUCTION + "".join(_section(setting) for setting in SETTINGS)


def _section(setting: Setting) -> str:
    lines = [
        f"\n### `{setting.name}`\n",
        setting.help + "\n",
        f"- value: {setting.kind.words}".replace(" | ", ", "),
        f"- default: {default_in_words(setting)}",
        f"- environment: {', '.join(f'`{name}`' for name in variables(setting))}",
    ]
    if setting.secret:
        lines[-1] += ", each also with `_FILE`"
        lines.append("- secret: hidden wherever it is printed")
    return "\n".join(lines) + "\n"


def variables(setting: Setting) -> tuple[str, ...]:
    return (setting.variable, *setting.conventional)


def env_example() -> str:
    lines = [
        "# Copy to .env and uncomment what should differ from the default.",
        "# Written by `botswarm config reference --env-example`; docs/configuration.md explains.",
    ]
    for setting in SETTINGS:
        lines += [
            "",
            *wrap(setting.help, width=98, initial_indent="# ", subsequent_indent="# "),
            f"# {setting.kind.words}; default: {default_in_words(setting)}",
            f"#{setting.variable}={_example(setting)}",
        ]
    return "\n".join(lines) + "\n"


_EXAMPLES = {
    "broker_url": "amqp://user:password@host:5672/vhost",
    "broker_management_url": "http://user:password@host:15672",
    "database_url": "postgresql://user:password@host:5432/database",
    "database_admin_url": "postgresql://owner:password@host:5432/database",
    "redis_url": "redis://:password@host:6379/0",
}


def _example(setting: Setting) -> str:
    if setting.name in _EXAMPLES:
        return _EXAMPLES[setting.name]
    if setting.default is None or callable(setting.default):
        return ""
    return str(_plain(setting.default))

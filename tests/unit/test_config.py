"""Every source of every setting, every problem, and that no secret ever shows."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from botswarm.broker.options import BrokerOptions
from botswarm.config import Configuration, Secret, load, mask_urls
from botswarm.config.kinds import Setting
from botswarm.config.reference import env_example, json_schema, markdown
from botswarm.config.settings import Settings
from botswarm.config.table import BY_NAME, SETTINGS
from botswarm.errors import Misconfigured, Problem

ROOT = Path(__file__).parents[2]
BROKER = "amqp://bot:s3cr3t-word@mq.example:5672/trading"
DATABASE = "postgresql://bot:s3cr3t-word@db.example/ledger"
PRODUCTION = {
    "BOTSWARM_ENV": "production",
    "BOTSWARM_BROKER_URL": BROKER,
    "BOTSWARM_DATABASE_URL": DATABASE,
}


def read(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, tuple[str, str]] | None = None,
    *,
    dotenv: str | None = None,
    toml: str | None = None,
) -> Configuration:
    """Load with these files in the folder."""
    if dotenv is not None:
        (folder / ".env").write_text(dotenv)
    if toml is not None:
        (folder / "botswarm.toml").write_text(toml)
    return load(environ=environ or {}, flags=flags, folder=folder)


def problems(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: str | None = None,
    toml: str | None = None,
) -> list[Problem]:
    with pytest.raises(Misconfigured) as caught:
        read(folder, environ, dotenv=dotenv, toml=toml)
    return list(caught.value.problems)


def only_problem(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: str | None = None,
    toml: str | None = None,
) -> Problem:
    found = problems(folder, environ, dotenv=dotenv, toml=toml)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


# --- what is said about settings agrees with what they are ------------------------------------


def test_the_table_and_the_settings_name_the_same_things() -> None:
    assert list(BY_NAME) == list(Settings.__dataclass_fields__)


def test_nothing_set_gives_the_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path).settings
    assert settings.env == "development"
    assert settings.state_dir == Path(".botswarm")
    assert settings.broker_url is None
    assert settings.database_url.reveal() == f"sqlite:///{Path('.botswarm/ledger.db').absolute()}"


def test_defaults_of_the_broker_are_the_brokers_own(tmp_path: Path) -> None:
    settings, options = read(tmp_path).settings, BrokerOptions(state_dir=tmp_path)
    assert settings.broker_fsync == options.fsync
    assert settings.broker_memory_high_mb == options.memory_high_mb
    assert settings.broker_disk_free_low_mb == options.disk_free_low_mb
    assert settings.broker_consumer_timeout_s == options.consumer_timeout_s
    assert settings.broker_port is options.port
    assert settings.broker_management_port is options.management_port


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_read_by_something(setting: Setting) -> None:
    """An option that nothing reads is a defect."""
    sources = [
        path.read_text()
        for top in ("botswarm", "workers")
        for path in (ROOT / top).rglob("*.py")
        if "config" not in path.relative_to(ROOT / top).parts[0]
    ]
    assert any(f"settings.{setting.name}" in source for source in sources)


# --- sources and their order ------------------------------------------------------------------

LAYERS = [
    ("flag", "error", "command line: --log-level"),
    ("environment", "warning", "environment: BOTSWARM_LOG_LEVEL"),
    ("conventional", "info", "environment: LOG_LEVEL"),
    ("dotenv", "debug", ".env:2: BOTSWARM_LOG_LEVEL"),
    ("dotenv conventional", "error", ".env:1: LOG_LEVEL"),
    ("toml", "warning", "botswarm.toml:1: log_level"),
    ("profile", "debug", "default of development"),
]


@pytest.mark.parametrize("strongest", range(len(LAYERS)), ids=[layer[0] for layer in LAYERS])
def test_the_strongest_source_wins_and_is_named(tmp_path: Path, strongest: int) -> None:
    values = {name: value for name, value, _ in LAYERS[strongest:]}
    environ: dict[str, str] = {}
    flags: dict[str, tuple[str, str]] = {}
    dotenv = ["#", "#"]
    if "flag" in values:
        flags["log_level"] = ("--log-level", values["flag"])
    if "environment" in values:
        environ["BOTSWARM_LOG_LEVEL"] = values["environment"]
    if "conventional" in values:
        environ["LOG_LEVEL"] = values["conventional"]
    if "dotenv" in values:
        dotenv[1] = f"BOTSWARM_LOG_LEVEL={values['dotenv']}"
    if "dotenv conventional" in values:
        dotenv[0] = f"LOG_LEVEL={values['dotenv conventional']}"
    toml = f'log_level = "{values["toml"]}"' if "toml" in values else ""
    found = read(tmp_path, environ, flags, dotenv="\n".join(dotenv), toml=toml)
    _, value, origin = LAYERS[strongest]
    assert found.settings.log_level == value
    assert found.origins["log_level"].replace(f"{tmp_path}/", "") == origin


def test_a_secret_is_read_from_the_file_that_a_variable_names(tmp_path: Path) -> None:
    file = tmp_path / "broker_url"
    file.write_text(BROKER + "\n")
    for variable in ("BOTSWARM_BROKER_URL_FILE", "CLOUDAMQP_URL_FILE"):
        found = read(tmp_path, {variable: str(file)})
        assert found.settings.broker_url == Secret(BROKER)
        assert found.origins["broker_url"] == f"file {file}: {variable}"


def test_a_plain_variable_is_stronger_than_a_file(tmp_path: Path) -> None:
    file = tmp_path / "broker_url"
    file.write_text("amqp://other:word@elsewhere")
    environ = {"BOTSWARM_BROKER_URL_FILE": str(file), "AMQP_URL": BROKER}
    assert read(tmp_path, environ).settings.broker_url == Secret(BROKER)


def test_a_file_named_in_the_environment_is_stronger_than_the_env_file(tmp_path: Path) -> None:
    file = tmp_path / "broker_url"
    file.write_text(BROKER)
    dotenv = "BOTSWARM_BROKER_URL=amqp://other:word@elsewhere"
    found = read(tmp_path, {"BROKER_URL_FILE": str(file)}, dotenv=dotenv)
    assert found.settings.broker_url == Secret(BROKER)
    found = read(tmp_path, dotenv=f"BROKER_URL_FILE={file}")
    assert found.settings.broker_url == Secret(BROKER)


def test_only_secrets_are_read_from_files(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, {"BOTSWARM_LOG_LEVEL_FILE": "/nowhere"})
    assert "BOTSWARM_LOG_LEVEL_FILE" in problem.cause


def test_a_file_that_is_missing_is_a_problem_with_its_path(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, {"REDIS_URL_FILE": str(tmp_path / "gone")})
    assert "REDIS_URL_FILE" in problem.cause
    assert str(tmp_path / "gone") in problem.cause
    assert "does not exist" in problem.cause


@pytest.mark.parametrize("variable", BY_NAME["broker_url"].conventional)
def test_each_platforms_name_for_the_broker_is_understood(tmp_path: Path, variable: str) -> None:
    assert read(tmp_path, {variable: BROKER}).settings.broker_url == Secret(BROKER)


def test_the_profiles_own_env_file_is_stronger_than_the_common_one(tmp_path: Path) -> None:
    (tmp_path / ".env.staging").write_text("BOTSWARM_BROKER_FSYNC=always")
    (tmp_path / ".env.production").write_text("BOTSWARM_BROKER_FSYNC=interval")
    found = read(tmp_path, dotenv="BOTSWARM_ENV=staging\nBOTSWARM_BROKER_FSYNC=never")
    assert found.settings.broker_fsync == "always"
    assert found.origins["broker_fsync"].endswith(".env.staging:1: BOTSWARM_BROKER_FSYNC")


def test_a_profiles_env_file_may_not_choose_another_profile(tmp_path: Path) -> None:
    (tmp_path / ".env.staging").write_text("BOTSWARM_ENV=production")
    problem = only_problem(tmp_path, dotenv="BOTSWARM_ENV=staging")
    assert "is read for staging only" in problem.cause


def test_an_empty_value_counts_as_unset(tmp_path: Path) -> None:
    environ = {"BOTSWARM_BROKER_URL": "", "BOTSWARM_LOG_LEVEL": "  ", "DATABASE_URL": ""}
    found = read(tmp_path, environ, dotenv="BOTSWARM_REDIS_URL=", toml='broker_fsync = ""')
    assert {found.origins[name] for name in ("broker_url", "redis_url", "broker_fsync")} == {
        "default"
    }


def test_numbers_in_toml_need_no_quotes(tmp_path: Path) -> None:
    assert read(tmp_path, toml="broker_port = 5673").settings.broker_port == 5673


def test_a_config_file_named_by_hand_must_exist(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(environ={}, config_file=tmp_path / "gone.toml", folder=tmp_path)
    assert "gone.toml does not exist" in str(caught.value)


def test_two_conventional_names_that_differ_are_a_problem_naming_both(tmp_path: Path) -> None:
    environ = {"CLOUDAMQP_URL": BROKER, "AMQP_URL": "amqp://bot:other@elsewhere"}
    problem = only_problem(tmp_path, environ)
    assert "CLOUDAMQP_URL and AMQP_URL" in problem.cause
    assert "BOTSWARM_BROKER_URL" in problem.cure


def test_our_own_name_decides_between_conventional_ones(tmp_path: Path) -> None:
    environ = {"CLOUDAMQP_URL": "amqp://a@x", "AMQP_URL": "amqp://b@y"}
    found = read(tmp_path, {**environ, "BOTSWARM_BROKER_URL": BROKER})
    assert found.settings.broker_url == Secret(BROKER)


def test_conventional_names_that_agree_are_no_problem(tmp_path: Path) -> None:
    environ = {"CLOUDAMQP_URL": BROKER, "CELERY_BROKER_URL": BROKER}
    assert read(tmp_path, environ).settings.broker_url == Secret(BROKER)


def test_the_encrypted_port_of_one_redis_wins_without_a_problem(tmp_path: Path) -> None:
    environ = {
        "REDIS_URL": "redis://:w@r.example:6379",
        "REDIS_TLS_URL": "rediss://:w@r.example:6380",
    }
    assert read(tmp_path, environ).settings.redis_url == Secret("rediss://:w@r.example:6380")
    environ["REDIS_URL"] = "redis://:w@another.example:6379"
    assert "REDIS_TLS_URL and REDIS_URL" in only_problem(tmp_path, environ).cause


def test_without_a_broker_url_the_embedded_brokers_is_meant(tmp_path: Path) -> None:
    addresses = {
        "broker_url": "amqp://u:pw@127.0.0.1:5672",
        "broker_management_url": "http://u:pw@127.0.0.1:15672/api/",
    }
    found = load(environ={}, folder=tmp_path, embedded_broker=lambda state_dir: addresses)
    assert found.settings.broker_url == Secret(addresses["broker_url"])
    assert found.origins["broker_url"] == "embedded broker (.botswarm/broker.json)"
    found = load(
        environ={"AMQP_URL": BROKER}, folder=tmp_path, embedded_broker=lambda state_dir: addresses
    )
    assert found.settings.broker_url == Secret(BROKER)
    assert found.settings.broker_management_url is None


# --- problems ---------------------------------------------------------------------------------


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        {"BOTSWARM_BROKER_URL": "mq", "BOTSWARM_BROKR_PORT": "1", "BOTSWARM_LOG_LEVEL": "loud"},
        dotenv="what is this\nBOTSWARM_BROKER_PORT=70000",
        toml='brocker_fsync = "always"\nbroker_fsync = "sometimes"',
    )
    text = "\n".join(str(problem) for problem in found)
    assert len(found) == 7
    for part in (
        "BOTSWARM_BROKER_URL is not a URL",
        "BOTSWARM_BROKR_PORT is not a setting",
        "BOTSWARM_LOG_LEVEL is 'loud'",
        ".env:1 is not NAME=value",
        f"BOTSWARM_BROKER_PORT ({tmp_path}/.env:2) is '70000'",
        f"brocker_fsync ({tmp_path}/botswarm.toml:1) is not a setting",
        f"broker_fsync ({tmp_path}/botswarm.toml:2) is 'sometimes'",
    ):
        assert part in text
    assert all(problem.cure for problem in found)


def test_an_unknown_variable_gets_the_name_that_was_meant(tmp_path: Path) -> None:
    cure = only_problem(tmp_path, {"BOTSWARM_DATABSE_URL": DATABASE}).cure
    assert cure == "did you mean BOTSWARM_DATABASE_URL?"
    assert "did you mean redis_url?" in only_problem(tmp_path, toml='rediss_url = "x"').cure


def test_other_programs_names_in_an_env_file_are_left_alone(tmp_path: Path) -> None:
    assert read(tmp_path, dotenv="POSTGRES_PASSWORD=x\nCOMPOSE_PROJECT_NAME=y").settings


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("env", "prod"),
        ("broker_port", "0"),
        ("broker_port", "65536"),
        ("broker_port", "5_672"),
        ("broker_port", "٥٦٧٢"),
        ("broker_port", "-1"),
        ("broker_port", "5672.0"),
        ("broker_fsync", "yes"),
        ("broker_memory_high_mb", "0"),
        ("broker_memory_high_mb", "9" * 5000),
        ("broker_consumer_timeout_s", "30m"),
        ("instance_id", "two words"),
        ("log_format", "xml"),
        ("log_file", "/nowhere/at/all.log"),
        ("log_file", "/"),
        ("log_file", "n" * 300),
        ("state_dir", "/etc/passwd"),
        ("state_dir", "n" * 300),
        ("state_dir", "/etc/passwd/x"),
        ("state_dir", "~no-such-user-here/x"),
    ],
)
def test_a_value_that_does_not_fit_is_a_problem_with_its_cure(
    tmp_path: Path, name: str, text: str
) -> None:
    problem = only_problem(tmp_path, {f"BOTSWARM_{name.upper()}": text})
    assert problem.cause.startswith(f"BOTSWARM_{name.upper()} is ")
    assert problem.cure


def test_one_port_for_two_things_is_a_problem(tmp_path: Path) -> None:
    toml = "broker_port = 5672\nbroker_management_port = 5672"
    assert "are both 5672" in only_problem(tmp_path, toml=toml).cause


@pytest.mark.parametrize(
    ("toml", "part"),
    [
        ("broker_port = [1]", "neither text nor a number"),
        ("broker_port = true", "neither text nor a number"),
        ("broker_port = 2026-01-01", "neither text nor a number"),
        ("[broker]\nport = 1", "broker (<folder>/botswarm.toml:1) is not a setting"),
        ("broker_port = 1.5", "is '1.5', not a whole number"),
        ("broker_port", "is not TOML"),
        ('a = "\\q"', "is not TOML"),
    ],
)
def test_a_toml_file_that_does_not_fit_is_a_problem(tmp_path: Path, toml: str, part: str) -> None:
    assert part in only_problem(tmp_path, toml=toml).cause.replace(str(tmp_path), "<folder>")


@pytest.mark.parametrize("name", [".env", "botswarm.toml"])
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8" in only_problem(tmp_path).cause
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert "cannot be read" in only_problem(tmp_path).cause


# --- production -------------------------------------------------------------------------------


def test_production_with_everything_it_needs_is_valid(tmp_path: Path) -> None:
    found = read(tmp_path, PRODUCTION)
    assert found.settings.log_level == "info"
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"BOTSWARM_BROKER_URL": ""}, "no RabbitMQ server is named"),
        ({"BOTSWARM_DATABASE_URL": ""}, "no PostgreSQL server is named"),
        ({"BOTSWARM_DATABASE_URL": "sqlite:///x.db"}, "no PostgreSQL server is named"),
        ({"LOG_LEVEL": "debug"}, "the log level is debug"),
        ({"BOTSWARM_BROKER_URL": "amqp://bot:changeme@mq"}, "placeholder"),
        ({"BOTSWARM_BROKER_URL": "amqp://bot:%73ecret@mq"}, "placeholder"),
        ({"BOTSWARM_BROKER_URL": "amqp://guest:guest@mq"}, "placeholder"),
        ({"BOTSWARM_BROKER_URL": "amqp://mq:5672"}, "no password"),
        ({"BOTSWARM_DATABASE_URL": "postgres://bot:password@db/x"}, "placeholder"),
        ({"BOTSWARM_DATABASE_URL": "postgres://bot:@db/x"}, "an empty password"),
        ({"BOTSWARM_REDIS_URL": "redis://:@r/0"}, "an empty password"),
        ({"BOTSWARM_REDIS_URL": "redis://:<Secret>@r/0"}, "placeholder"),
    ],
)
def test_production_refuses_what_staging_warns_of(
    tmp_path: Path, change: dict[str, str], part: str
) -> None:
    environ = {**PRODUCTION, **change}
    problem = only_problem(tmp_path, environ)
    assert part in problem.cause
    staging = read(tmp_path, {**environ, "BOTSWARM_ENV": "staging"})
    assert [part in warning.cause for warning in staging.warnings] == [True]
    assert read(tmp_path, {**environ, "BOTSWARM_ENV": "development"}).warnings == ()


def test_a_password_that_is_half_an_address_is_taken_as_it_is(tmp_path: Path) -> None:
    environ = {**PRODUCTION, "BOTSWARM_FLOWER_PASSWORD": "//[4pssw0rd-4pssw0rd"}
    assert read(tmp_path, environ).settings.flower_password == Secret("//[4pssw0rd-4pssw0rd")


def test_production_does_not_take_the_embedded_broker_for_a_server(tmp_path: Path) -> None:
    environ = {key: value for key, value in PRODUCTION.items() if "BROKER" not in key}
    with pytest.raises(Misconfigured, match="no RabbitMQ server is named"):
        load(
            environ=environ,
            folder=tmp_path,
            embedded_broker=lambda _: {"broker_url": "amqp://u:pw123@127.0.0.1"},
        )


# --- secrets ----------------------------------------------------------------------------------


def test_a_secret_shows_itself_nowhere_but_on_request(tmp_path: Path) -> None:
    secret = Secret(BROKER)
    settings = read(tmp_path, {"AMQP_URL": BROKER, "DATABASE_URL": DATABASE}).settings
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s %r" % (secret, secret)]  # noqa: UP031
    shown += [repr(settings), str(settings), repr([secret]), json.dumps({"url": str(secret)})]
    for text in shown:
        assert "s3cr3t" not in text
    assert secret.reveal() == BROKER
    assert secret.masked == "amqp://bot:***@mq.example:5672/trading"
    assert Secret("a plain token").masked == "***"


def test_a_secret_is_neither_json_nor_pickle() -> None:
    with pytest.raises(TypeError) as caught:
        json.dumps(Secret(BROKER))
    assert "s3cr3t" not in str(caught.value)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(Secret(BROKER))


def test_copies_of_a_secret_are_the_secret() -> None:
    secret = Secret(BROKER)
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret
    assert {secret} == {Secret(BROKER)}
    assert secret != BROKER


def test_no_problem_and_no_traceback_quotes_a_secret(tmp_path: Path) -> None:
    bad = {
        "BOTSWARM_BROKER_URL": "amqp://bot:s3cr3t-word@mq:port",
        "BOTSWARM_DATABASE_URL": "s3cr3t-word",
        "BOTSWARM_REDIS_URL": "redis://:s3cr3t-word#x@host",
        "BOTSWARM_BROKER_MANAGEMENT_URL": "http://bot:s3cr3t/word@host",
        "BOTSWARM_BROKER_URLL": "amqp://bot:s3cr3t-word@mq",
    }
    dotenv = (
        's3cr3t-word\nA=\'s3cr3t-word\nB="s3cr3t-word" s3cr3t-word\nC=s3cr3t-word\nC=s3cr3t-word'
    )
    toml = 'broker_ulr = "amqp://bot:s3cr3t-word@mq"'
    with pytest.raises(Misconfigured) as caught:
        read(tmp_path, bad, dotenv=dotenv, toml=toml)
    assert len(caught.value.problems) == 10
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("amqp://u:p@h/v", "amqp://u:***@h/v"),
        ("redis://:p@h", "redis://:***@h"),
        ("x amqp://u:a@b/c:d@h y", "x amqp://u:***@h y"),
        ("http://h:80/x", "http://h:80/x"),
        ("see https://h/?token=abc&x=1", "see https://h/?token=***&x=1"),
    ],
)
def test_passwords_in_urls_are_masked_in_any_text(text: str, masked: str) -> None:
    assert mask_urls(text) == masked


# --- what is written from the table -----------------------------------------------------------


def test_the_documents_are_what_the_table_says() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == markdown()
    assert (ROOT / ".env.example").read_text() == env_example()


def test_the_example_file_is_a_valid_env_file_also_when_uncommented(tmp_path: Path) -> None:
    assert read(tmp_path, dotenv=env_example()).settings == read(tmp_path).settings
    lines = env_example().splitlines()
    uncommented = "\n".join(
        line.removeprefix("#") if "=" in line and line[1] != " " else line for line in lines
    )
    assert read(tmp_path, dotenv=uncommented).settings.broker_url is not None


def test_the_schema_names_every_setting_and_nothing_else() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert list(schema["properties"]) == list(BY_NAME)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["broker_fsync"]["enum"] == ["always", "interval", "never"]


def test_the_owner_of_tables_and_a_ledger_in_a_file_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="stands beside a SQLite ledger"):
        read(tmp_path, {"BOTSWARM_DATABASE_ADMIN_URL": DATABASE})


def test_the_owner_of_another_databases_tables_is_refused(tmp_path: Path) -> None:
    named = {"BOTSWARM_DATABASE_URL": "postgresql://swarm:a-word@pool.example:6432/bots%77arm"}
    owner = "postgres://owner:a-word@db.example/{}?sslmode=verify-full"
    read(tmp_path, {**named, "BOTSWARM_DATABASE_ADMIN_URL": owner.format("botswarm")})
    with pytest.raises(Misconfigured, match="name two databases"):
        read(tmp_path, {**named, "BOTSWARM_DATABASE_ADMIN_URL": owner.format("postgres")})

"""The command line as a user meets it: what it prints, where, and how it exits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from botswarm.cli import COMMANDS, botswarm
from botswarm.cli.failures import ERROR_CODES, EXIT_CODES
from botswarm.cli.help import markdown
from botswarm.cli.session import Session
from botswarm.testing.servers import free_port

ROOT = Path(__file__).parents[2]
HEAVY = {
    *("amqp", "asyncio", "celery", "kombu", "psycopg2", "redis", "sqlalchemy", "tomllib"),
    *("logging.config", "http.client", "botswarm.config", "botswarm.broker"),
}

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command in an empty folder with nothing of the caller's environment."""

    def run(*words: str, stdin: str | None = None, **environ: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "botswarm", *words],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), **environ},
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def errors(done: Done) -> list[str]:
    """The error lines; whatever a user may get wrong, there is never a traceback."""
    assert "Traceback" not in done.stdout + done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("Error [BSW-")]


# --- starting fast ----------------------------------------------------------------------------


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; from botswarm.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('LOADED', *sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = done.stdout.partition("LOADED ")[2].split()
    assert "botswarm.cli.command" in loaded
    assert not [name for name in loaded if name in HEAVY or name.startswith("botswarm.cli.doctor")]


def test_an_emergency_stop_goes_before_everybody_else_before_it_imports_its_modules() -> None:
    program = (
        "import sys; from botswarm import cli\n"
        "cli.hurry = lambda: print('HURRIED', 'botswarm.cli.trading' in sys.modules)\n"
        "cli.main(['trading', 'emergency-stop', '--help'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.startswith("HURRIED False")


def test_the_list_of_commands_says_what_each_command_says_of_itself() -> None:
    context = click.Context(botswarm)
    for name, (_, short) in COMMANDS.items():
        command = botswarm.get_command(context, name)
        assert command is not None
        assert (command.help or "").splitlines()[0].startswith(short.rstrip(".")[:20])


def every_command(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from every_command(child, (*path, name))


@pytest.mark.parametrize("path", list(every_command(botswarm, ())), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(environ={})
    botswarm.main([*path, "--help"], prog_name="botswarm", standalone_mode=False, obj=session)
    assert "Usage: botswarm" in capsys.readouterr().out


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    assert (ROOT / "docs/commands.md").read_text() == markdown(botswarm)


def test_every_code_in_the_source_is_in_the_table_and_the_other_way_round() -> None:
    used = set()
    for path in (ROOT / "botswarm/cli").glob("*.py"):
        text = path.read_text()
        if path.name == "failures.py":
            text = text.partition("def code_of")[2]
        used |= set(re.findall(r'code = "(BSW-\d{4})"', text))
    general = {f"BSW-{code}000" for code in EXIT_CODES if 0 < code < 10}
    assert used | general == set(ERROR_CODES)


# --- answers ----------------------------------------------------------------------------------


def test_version_is_printed_as_text_and_as_json(run: Run) -> None:
    assert run("version").stdout.startswith("botswarm 0.")
    answer = json.loads(run("version", "--json").stdout)
    assert answer["ok"] is True
    assert set(answer) == {"ok", "data", "warnings", "next"}
    assert answer["data"]["botswarm"] in run("version").stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "config", "verify"],
        ["config", "--json", "verify"],
        ["config", "verify", "--json"],
        ["-o", "json", "config", "verify"],
        ["config", "verify", "--output=json"],
    ],
    ids=" ".join,
)
def test_json_may_be_asked_for_before_and_after_the_command(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert json.loads(done.stdout)["ok"] is True
    assert (done.stderr, done.returncode) == ("", 0)


def test_shared_options_are_understood_in_both_places(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('broker_fsync = "never"')
    for words in (
        ["--config", "other.toml", "config", "show"],
        ["config", "show", "--config", "other.toml"],
    ):
        assert re.search(r"broker_fsync +never", run(*words).stdout)
    for words in (
        ["--profile", "staging", "config", "show"],
        ["config", "show", "--profile=staging"],
    ):
        assert re.search(r"env +staging", run(*words).stdout)


def test_show_hides_passwords_and_names_origins(run: Run) -> None:
    url = "amqp://bot:s3cr3t-word@mq.example/v"
    for words in (["config", "show"], ["config", "show", "--origin"], ["config", "show", "--json"]):
        done = run(*words, CLOUDAMQP_URL=url)
        assert "amqp://bot:***@mq.example/v" in done.stdout
        assert "s3cr3t" not in done.stdout + done.stderr
    assert (
        "environment: CLOUDAMQP_URL"
        in run("config", "show", "--origin", AMQP_URL="", CLOUDAMQP_URL=url).stdout
    )


def test_the_printed_schema_and_reference_are_what_they_say(run: Run) -> None:
    assert json.loads(run("config", "schema").stdout)["title"] == "botswarm.toml"
    assert run("config", "reference").stdout == (ROOT / "docs/configuration.md").read_text()
    example = run("config", "reference", "--env-example").stdout
    assert example == (ROOT / ".env.example").read_text()


def test_exit_codes_are_explained(run: Run) -> None:
    assert json.loads(run("help", "exit-codes", "--json").stdout)["data"]["8"]
    assert "BSW-8000" in run("help", "error-codes").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(run: Run, shell: str) -> None:
    assert "_BOTSWARM_COMPLETE" in run("completion", shell).stdout


def test_completion_offers_the_commands(run: Run) -> None:
    done = run(_BOTSWARM_COMPLETE="bash_complete", COMP_WORDS="botswarm co", COMP_CWORD="1")
    assert done.stdout.splitlines() == ["plain,completion", "plain,config"]


def test_colour_is_only_for_terminals_that_want_it(run: Run) -> None:
    plain = [run("config", "nosuch"), run("config", "nosuch", FORCE_COLOR="1", NO_COLOR="1")]
    plain += [run("config", "nosuch", FORCE_COLOR="1", TERM="dumb")]
    plain += [run("--no-color", "config", "verify", FORCE_COLOR="1", LOG_LEVEL="loud")]
    assert all("\x1b" not in done.stderr for done in plain)
    assert "\x1b[31m" in run("config", "verify", FORCE_COLOR="1", LOG_LEVEL="loud").stderr


# --- what a user may get wrong ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["qeue", "list"], "Did you mean 'queue'?"),
        (["queue", "lst"], "Did you mean 'list'?"),
        (["config", "show", "--orign"], "--origin"),
        (["queue", "peek"], "Missing argument 'NAME'"),
        (["queue", "peek", "x", "--count", "many"], "'many' is not a valid integer"),
        (["doctor", "--only", "moon"], "'moon' is not one of"),
        (["--profile", "prod", "version"], "'prod' is not one of"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_one_message_and_exit_2(
    run: Run, words: list[str], part: str
) -> None:
    done = run(*words)
    assert done.returncode == 2
    (line,) = errors(done)
    assert line.startswith("Error [BSW-2000]")
    assert part in line
    assert "--help" in line
    done = run(*words, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "BSW-2000"


@pytest.mark.parametrize("words", [[], ["queue"]], ids=["botswarm", "botswarm queue"])
def test_no_command_at_all_prints_the_help_and_exits_2(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: botswarm")
    done = run(*words, "--json")
    assert done.returncode == 2
    assert "Missing command" in json.loads(done.stdout)["error"]["cause"]


BROKEN: list[tuple[str, dict[str, str], str, list[str]]] = [
    ("a bad URL", {"BOTSWARM_BROKER_URL": "mq.example"}, "", ["BOTSWARM_BROKER_URL is not a URL"]),
    ("a bad port", {"AMQP_URL": "amqp://h:99999"}, "", ["AMQP_URL has a host or port"]),
    (
        "missing secrets",
        {"BOTSWARM_ENV": "production"},
        "",
        ["no RabbitMQ server is named", "no PostgreSQL server is named"],
    ),
    (
        "a missing secret file",
        {"BOTSWARM_DATABASE_URL_FILE": "/nowhere"},
        "",
        ["BOTSWARM_DATABASE_URL_FILE names the file /nowhere, which does not exist"],
    ),
    (
        "an unknown variable",
        {"BOTSWARM_BROKER_PRT": "1"},
        "",
        ["did you mean BOTSWARM_BROKER_PORT?"],
    ),
    ("an unknown key", {}, "brokerport = 1", ["did you mean broker_port?"]),
    ("a broken file", {}, "broker_port", ["botswarm.toml is not TOML"]),
    (
        "names that differ",
        {"CLOUDAMQP_URL": "amqp://a", "AMQP_URL": "amqp://b"},
        "",
        ["CLOUDAMQP_URL and AMQP_URL are set to different values"],
    ),
]


@pytest.mark.parametrize(
    "words", [["config", "verify"], ["queue", "list"], ["broker", "status"]], ids=" ".join
)
@pytest.mark.parametrize(
    ("case", "environ", "toml", "parts"), BROKEN, ids=[row[0] for row in BROKEN]
)
def test_a_broken_configuration_is_one_message_per_problem_and_exit_8(
    run: Run,
    tmp_path: Path,
    words: list[str],
    case: str,
    environ: dict[str, str],
    toml: str,
    parts: list[str],
) -> None:
    (tmp_path / "botswarm.toml").write_text(toml)
    done = run(*words, **environ)
    assert done.returncode == 8
    found = errors(done)
    assert len(found) == len(parts) == len(done.stderr.splitlines())
    for line, part in zip(found, parts, strict=True):
        assert line.startswith("Error [BSW-8000] ")
        assert part in line
    done = run(*words, "--json", **environ)
    assert (done.returncode, done.stderr) == (8, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["ok"] is False
    assert answer["error"]["code"] == "BSW-8000"
    assert len(answer["error"]["problems"]) == len(parts)
    assert all(problem["cure"] for problem in answer["error"]["problems"])


def test_staging_warns_and_strict_makes_that_a_failure(run: Run) -> None:
    done = run("config", "verify", "--profile", "staging")
    assert done.returncode == 0
    assert done.stderr.count("Warning:") == 2
    assert "is valid" in done.stdout
    assert run("-q", "config", "verify", "--profile", "staging").stderr == ""
    done = run("config", "verify", "--strict", "--profile", "staging")
    assert done.returncode == 3
    assert errors(done)[0].startswith("Error [BSW-3001] the configuration has 2 warnings")


@pytest.mark.parametrize(
    "words",
    [["queue", "list"], ["queue", "peek", "x"], ["queue", "purge", "x", "--yes"]],
    ids=" ".join,
)
def test_an_unreachable_broker_is_one_message_and_exit_5(run: Run, words: list[str]) -> None:
    url = f"amqp://bot:s3cr3t-word@127.0.0.1:{free_port()}"
    if words == ["queue", "list"]:
        words = [*words, "orders"]
    done = run(*words, AMQP_URL=url)
    assert done.returncode == 5
    (line,) = errors(done)
    assert line.startswith("Error [BSW-5002] cannot reach the broker at amqp://bot:***@127.0.0.1:")
    assert "connection refused" in line
    assert "botswarm doctor --only broker" in line
    assert "s3cr3t" not in done.stderr


def test_an_unreachable_management_api_is_one_message_and_exit_5(run: Run) -> None:
    port = free_port()
    environ = {
        "AMQP_URL": f"amqp://bot:s3cr3t-word@127.0.0.1:{port}",
        "BOTSWARM_BROKER_MANAGEMENT_URL": f"http://bot:s3cr3t-word@127.0.0.1:{port}",
    }
    done = run("queue", "list", **environ)
    assert done.returncode == 5
    (line,) = errors(done)
    assert line.startswith("Error [BSW-5003] cannot reach the management API at http://bot:***@")


def test_a_server_that_is_no_broker_is_told_apart_from_none(run: Run) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        url = f"amqp://bot:s3cr3t-word@127.0.0.1:{listener.getsockname()[1]}"
        done = run("queue", "peek", "x", AMQP_URL=url)
    assert done.returncode == 5
    assert len(errors(done)) == 1


def test_a_certificate_nobody_vouches_for_is_refused(run: Run, tmp_path: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", "key.pem", "-out", "certificate.pem"),
        ],
        cwd=tmp_path,
        capture_output=True,
        timeout=30,
        check=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    certificate = str(tmp_path / "certificate.pem")
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=_shake_hands, args=(listener, context, 3))
        thread.start()
        unknown = run("queue", "peek", "x", AMQP_URL=f"amqps://u:pw12@localhost:{port}")
        other = run(
            *("queue", "peek", "x"),
            AMQP_URL=f"amqps://u:pw12@127.0.0.1:{port}",
            SSL_CERT_FILE=certificate,
        )
        right = run(
            *("queue", "peek", "x"),
            AMQP_URL=f"amqps://u:pw12@localhost:{port}",
            SSL_CERT_FILE=certificate,
        )
        thread.join(timeout=30)
    assert [done.returncode for done in (unknown, other, right)] == [5, 5, 5]
    assert "certificate verify failed" in errors(unknown)[0]
    assert "certificate verify failed" in errors(other)[0]
    assert "certificate" not in errors(right)[0]


def _shake_hands(listener: socket.socket, context: ssl.SSLContext, times: int) -> None:
    """Speak TLS and no AMQP."""
    listener.settimeout(20)
    for _ in range(times):
        connection, _ = listener.accept()
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
            pass
        connection.close()


def test_no_broker_at_all_is_said_with_how_to_start_one(run: Run) -> None:
    done = run("queue", "list")
    assert done.returncode == 5
    (line,) = errors(done)
    assert "botswarm broker run" in line
    done = run("broker", "status", "--json")
    assert done.returncode == 5
    answer = json.loads(done.stdout)
    assert answer["data"]["running"] is False
    assert answer["error"]["code"] == "BSW-5001"


def test_a_broker_that_has_died_is_told_apart_from_one_that_never_was(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / ".botswarm").mkdir()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    card = {
        "host": "127.0.0.1",
        "port": free_port(),
        "management_port": free_port(),
        "user": "bot",
        "password": "s3cr3t-word",
        "pid": ended.pid,
        "started_at": "2026-03-01T12:00:00+00:00",
    }
    (tmp_path / ".botswarm/broker.json").write_text(json.dumps(card))
    done = run("broker", "status")
    assert done.returncode == 5
    (line,) = errors(done)
    assert "is no longer running" in line
    assert "s3cr3t" not in done.stdout + done.stderr
    (line,) = errors(run("queue", "peek", "x"))
    assert "start it: botswarm broker run" in line


def test_the_embedded_broker_is_refused_in_production(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BOTSWARM_ENV=production")
    for done in (
        run("broker", "run"),
        run("broker", "run", "--profile", "production"),
        run("broker", "run", BOTSWARM_ENV="production"),
    ):
        assert done.returncode == 6
        (line,) = errors(done)
        assert line.startswith("Error [BSW-6002] the embedded broker does not run in production")
    assert not (tmp_path / ".botswarm").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--port", "x"],
        ["--fsync", "perhaps"],
        ["--memory-high-mb", "-1"],
        ["--state-dir", "/etc/passwd"],
    ],
    ids=" ".join,
)
def test_a_flag_is_checked_like_the_setting_it_stands_for(run: Run, words: list[str]) -> None:
    done = run("broker", "run", *words)
    assert done.returncode == 8
    (line,) = errors(done)
    assert line.startswith(f"Error [BSW-8000] {words[0]} is '{words[1]}'")


def test_text_that_cannot_be_printed_is_printed_escaped(run: Run) -> None:
    for name in ("BOTSWARM_\udcff", "BOTSWARM_Ü"):
        for words in (["config", "verify"], ["config", "verify", "--json"]):
            done = run(*words, **{name: "1", "PYTHONIOENCODING": "ascii"})
            assert done.returncode == 8
            assert "is not a setting of botswarm" in done.stdout + done.stderr
            assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m botswarm help commands | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "141")


@pytest.mark.parametrize(("where", "code"), [("> /dev/full", "5"), (">&-", "0")])
def test_an_answer_that_nobody_can_take_is_no_defect(tmp_path: Path, where: str, code: str) -> None:
    command = f"{sys.executable} -m botswarm version {where}; echo $? >&2"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=30,
        check=True,
    )
    *said, ended = done.stderr.splitlines()
    assert ended == code
    assert [line.partition(";")[0] for line in said] == (
        ["Error [BSW-5000] the answer cannot be written: No space left on device"]
        if code == "5"
        else []
    )


def test_an_unexpected_error_is_one_line_and_a_file_with_the_traceback(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import botswarm.cli.version as v\n"
        "def broken(*_): raise RuntimeError('lost amqp://u:s3cr3t-word@h')\n"
        "v.version.callback = broken\n"
    )
    done = run("version", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.startswith(
        "Error [BSW-1001] RuntimeError: lost amqp://u:***@h; the traceback is in "
    )
    kept = Path(line.rpartition(" ")[2])
    assert "in broken" in kept.read_text()
    assert "s3cr3t" not in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    done = run("-v", "version", PYTHONPATH=str(tmp_path))
    assert "Traceback" in done.stderr
    assert "s3cr3t" not in done.stderr

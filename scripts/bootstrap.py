"""Sets up a checkout and starts what was asked for; needs nothing but Python's own library."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal, NoReturn

ROOT = Path(__file__).resolve().parent.parent

Level = Literal["run", "dev"]
LOCK_FILES: Mapping[Level, str] = {"run": "requirements.lock", "dev": "requirements-dev.lock"}
PACKAGING = ("setup.cfg", "pyproject.toml")

CACHES = (".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")

UNREACHABLE = 5
INTERRUPTED = 130
TESTS_FAILED = 1  # pytest ran, and some did not pass

# The Python below any virtual environment. Resolved at once: by the time it is wanted, the
# .venv that this very process runs from may have been removed.
BASE_PYTHON = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())

# These would send pip's files, or Python's imports, somewhere other than .venv.
MISLEADING = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")


class SetupFailed(Exception):
    """The set-up cannot go on; the text names cause and cure in one line."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def say(text: str) -> None:
    print(f"botswarm: {text}", file=sys.stderr, flush=True)


def environment(root: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    venv = root / ".venv"
    path = f"{venv / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return kept | {"VIRTUAL_ENV": str(venv), "PATH": path}


# --- the virtual environment ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stamp:
    """What .venv was made of. Written last, so that having it means having everything."""

    level: Level
    inputs: str
    python: str
    root: str


@dataclass(frozen=True, slots=True)
class Interpreter:
    version: str
    base_prefix: str

    @property
    def series(self) -> str:
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True, slots=True)
class Checkout:
    root: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.venv / "botswarm-setup.json"

    @property
    def unfinished(self) -> Path:
        """There while .venv is being changed. Found at a start, it means: killed half-way."""
        return self.venv / "botswarm-setup.unfinished"

    @property
    def log(self) -> Path:
        return self.root / ".venv.log"

    @property
    def lock(self) -> Path:
        return self.root / ".venv.lock"

    def inputs(self, level: Level) -> str:
        digest = hashlib.sha256()
        for name in (LOCK_FILES[level], *PACKAGING):
            content = (self.root / name).read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def read_stamp(self) -> Stamp | None:
        try:
            stamp = Stamp(**json.loads(self.stamp.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):
            return None  # torn or of another version: set up again
        return stamp if stamp.level in LOCK_FILES else None


def running_interpreter() -> Interpreter:
    return Interpreter(".".join(str(part) for part in sys.version_info[:3]), sys.base_prefix)


def interpreter_of(checkout: Checkout) -> Interpreter | None:
    """The Python behind .venv; None when it is gone or does not run."""
    ask = "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.base_prefix)"
    if Path(sys.prefix).resolve() == checkout.venv.resolve():
        return running_interpreter()
    try:
        answer = subprocess.run(
            [checkout.python, "-I", "-c", ask], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    return Interpreter(*answer) if len(answer) == 2 else None


def is_ready(checkout: Checkout, level: Level, wanted: Interpreter | None) -> bool:
    """Whether nothing is left to do. ``wanted`` is None where any supported Python will do."""
    stamp = checkout.read_stamp()
    if stamp is None or checkout.unfinished.exists():
        return False
    actual = interpreter_of(checkout)
    return (
        actual is not None
        and (wanted is None or actual == wanted)
        and (level == "run" or stamp.level == "dev")
        and stamp.inputs == checkout.inputs(stamp.level)
        and stamp.python == actual.version
        and stamp.root == str(checkout.root)
    )


def reason_to_rebuild(checkout: Checkout, wanted: Interpreter | None) -> str | None:
    """Why .venv must be made from nothing; None where pip can bring it up to date."""
    if not checkout.venv.is_dir():
        return "there is none"
    if checkout.unfinished.exists():
        return "an earlier set-up was interrupted"
    actual = interpreter_of(checkout)
    if actual is None:
        return "its Python is gone"
    supported = {(3, 11), (3, 12), (3, 13)}
    if tuple(int(part) for part in actual.series.split(".")) not in supported:
        return f"it holds Python {actual.version}"
    if wanted is not None and (actual.series, actual.base_prefix) != (
        wanted.series,
        wanted.base_prefix,
    ):
        return f"it holds Python {actual.version} of {actual.base_prefix}"
    stamp = checkout.read_stamp()
    if stamp is not None and stamp.root != str(checkout.root):
        return "the checkout was moved"
    try:
        subprocess.run([checkout.python, "-m", "pip", "-V"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "its pip does not run"
    return None


@contextmanager
def sole_setup(checkout: Checkout) -> Iterator[int]:
    """Let one set-up at a time change .venv; yields the descriptor that holds the lock.

    Children are given the descriptor too: should this process be killed, the lock lives
    until the last pip it started has ended, and nobody removes .venv under its feet.
    """
    descriptor = os.open(checkout.lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is at work in this checkout; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def ensure_venv(checkout: Checkout, level: Level, wanted: Interpreter | None) -> None:
    if is_ready(checkout, level, wanted):
        return
    refuse_foreign_files(checkout)
    with sole_setup(checkout) as lock, checkout.log.open("w") as log:
        if is_ready(checkout, level, wanted):
            return  # the set-up that was waited for did it
        started = time.monotonic()
        run = logged_runner(checkout, log, lock)
        stamp = checkout.read_stamp()
        if stamp is not None and stamp.level == "dev":
            level = "dev"  # never take away what another command will want again
        if reason := reason_to_rebuild(checkout, wanted):
            make_venv(checkout, run, reason)
        checkout.unfinished.touch()
        install(checkout, level, run)
        write_stamp(checkout, level)
        checkout.unfinished.unlink()
        say(f".venv is ready after {time.monotonic() - started:.0f} s")


def make_venv(checkout: Checkout, run: Runner, reason: str) -> None:
    for left in checkout.root.glob(".venv.removed-*"):
        shutil.rmtree(left, ignore_errors=True)
    if checkout.venv.is_symlink() or checkout.venv.exists():
        # A rename is one step; deleting is not, and a half-deleted .venv could look whole.
        removed = checkout.root / f".venv.removed-{os.getpid()}"
        checkout.venv.rename(removed)
        if removed.is_symlink() or not removed.is_dir():
            removed.unlink()
        else:
            shutil.rmtree(removed, ignore_errors=True)
    say(f"making .venv with Python {running_interpreter().version} ({reason})")
    ensure_ensurepip(run)
    checkout.venv.mkdir()
    checkout.unfinished.touch()
    run("Python could not make .venv", [BASE_PYTHON, "-m", "venv", str(checkout.venv)])


def install(checkout: Checkout, level: Level, run: Runner) -> None:
    pip = [str(checkout.python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    lock_file = LOCK_FILES[level]
    count = sum("==" in line for line in (checkout.root / lock_file).read_text().splitlines())
    say(f"installing the {count} packages of {lock_file}")
    locked = ["install", "-q", "--require-hashes", "-r", str(checkout.root / lock_file)]
    run("pip could not install the locked packages; is the package index reachable?", pip + locked)
    itself = ["install", "-q", "--no-deps", "--no-build-isolation", "-e", str(checkout.root)]
    run("pip could not install the project itself", pip + itself)


def write_stamp(checkout: Checkout, level: Level) -> None:
    actual = interpreter_of(checkout)
    if actual is None:
        raise SetupFailed("the new .venv's Python does not run; remove .venv and try again")
    stamp = Stamp(level, checkout.inputs(level), actual.version, str(checkout.root))
    temporary = checkout.stamp.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(stamp)))
    temporary.replace(checkout.stamp)


def refuse_foreign_files(checkout: Checkout) -> None:
    """What root made here nobody else can change: say so before pip or a tool stumbles."""
    caches = [checkout.root / name for name in CACHES]
    egg_info = checkout.root / "botswarm.egg-info"
    places = (checkout.root, checkout.venv, checkout.log, checkout.lock, egg_info, *caches)
    for place in places:
        if place.exists() and not os.access(place, os.W_OK):
            owner = place.stat().st_uid
            raise SetupFailed(
                f"{place} belongs to user {owner} and cannot be written; "
                f"run as that user, or: sudo chown -R {os.getuid()} {checkout.root}"
            )


Runner = Callable[[str, Sequence[str]], None]


def logged_runner(checkout: Checkout, log: IO[str], lock: int) -> Runner:
    """A way to run one step: its output goes to the log, and to the screen if it fails."""

    def run(complaint: str, command: Sequence[str]) -> None:
        log.write(f"$ {shlex.join(command)}\n")
        log.flush()
        begin = log.tell()
        step = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(checkout.root),
            cwd=checkout.root,
            pass_fds=(lock,),
            check=False,
        )
        if step.returncode != 0:
            with checkout.log.open() as written:
                written.seek(begin)
                telling = [line.rstrip() for line in written if "is ignored: it is" not in line]
            print("\n".join(telling[-15:]), file=sys.stderr)
            raise SetupFailed(f"{complaint} (whole output: {checkout.log})")
        log.seek(0, os.SEEK_END)

    return run


def ensure_ensurepip(run: Runner) -> None:
    """Debian ships Python without the part that makes virtual environments."""
    asked = subprocess.run(
        [BASE_PYTHON, "-c", "import ensurepip"], capture_output=True, check=False
    )
    if asked.returncode == 0:
        return
    series = running_interpreter().series
    package = f"python{series}-venv"
    if (become_root := way_to_root()) is None:
        raise SetupFailed(
            f"Python {series} cannot make virtual environments here; "
            f"install its venv module (Debian: apt-get install {package})",
            UNREACHABLE,
        )
    say(f"installing {package} with apt-get")
    run(f"apt-get could not install {package}", [*become_root, *apt_get_install(package)])


# --- the servers that the tests talk to ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """Or another program that the tests run and that no Python package brings."""

    name: str
    programs: tuple[str, ...]
    package: str


SERVERS = (
    Server("RabbitMQ", ("rabbitmq-server",), "rabbitmq-server"),
    Server("Redis", ("redis-server",), "redis-server"),
    Server("PostgreSQL", ("initdb", "pg_ctl", "postgres"), "postgresql"),
    Server("Chromium", ("chromium",), "chromium"),
    Server("tini", ("tini",), "tini"),
    Server("Docker Compose", ("docker-compose",), "docker-compose"),
    Server("Prometheus", ("prometheus", "promtool"), "prometheus"),
    Server("Alertmanager's amtool", ("amtool",), "prometheus-alertmanager"),
)


def server_places() -> list[Path]:
    """Where server programs stand: an ordinary user's PATH has neither sbin nor these."""
    path = os.environ.get("PATH", os.defpath)
    named = [Path(place) for place in path.split(os.pathsep) if place]
    usual = [Path(place) for place in ("/usr/sbin", "/usr/local/sbin", "/usr/lib/rabbitmq/bin")]
    return [*named, *usual, *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]


def missing_servers(places: Sequence[Path]) -> list[Server]:
    def stands(program: str) -> bool:
        return any(os.access(place / program, os.X_OK) for place in places)

    return [server for server in SERVERS if not all(stands(name) for name in server.programs)]


def ensure_servers(
    checkout: Checkout,
    places: Callable[[], Sequence[Path]],
    become_root: Callable[[], list[str] | None],
) -> None:
    missing = missing_servers(places())
    if not missing:
        return
    names = ", ".join(server.name for server in missing)
    packages = [server.package for server in missing]
    if (prefix := become_root()) is None:
        raise SetupFailed(
            f"the tests need {names}, not found here; install: {' '.join(packages)} "
            f"(Debian: apt-get install {' '.join(packages)})",
            UNREACHABLE,
        )
    refuse_foreign_files(checkout)
    with sole_setup(checkout) as lock, checkout.log.open("w") as log:
        say(f"installing {names} with apt-get, a minute or two (output: {checkout.log})")
        run = logged_runner(checkout, log, lock)
        run(f"apt-get could not install {names}", [*prefix, *apt_get_install(*packages)])
    if still := missing_servers(places()):
        names = ", ".join(server.name for server in still)
        raise SetupFailed(f"{names} not found even after apt-get installed it", UNREACHABLE)


def way_to_root() -> list[str] | None:
    """What to put before a command so that apt-get may install; None where there is no way."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return ["sudo", "-n"] if asked.returncode == 0 else None


def apt_get_install(*packages: str) -> list[str]:
    # Tests start servers of their own, so the system's must stay down: policy-rc.d is how
    # Debian is told. One that was there before is kept; one that a killed run of ours left
    # behind is known by its second line. dpkg --configure mends an interrupted install.
    script = """
set -u
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
mark='# botswarm set-up: no services while packages are installed'
if [ ! -e "$policy" ] || grep -qxF "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\\n%s\\nexit 101\\n' "$mark" > "$policy" && chmod 755 "$policy"
fi
dpkg --configure -a
apt-get update -q
apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
"""
    return ["sh", "-c", script, "apt_get_install", *packages]


# --- what can be asked for -----------------------------------------------------------------


def up(checkout: Checkout, arguments: list[str], wanted: Interpreter | None) -> int:
    ensure_venv(checkout, "run", wanted)
    start(checkout, ["botswarm", "up", *arguments])


def test(checkout: Checkout, arguments: list[str], wanted: Interpreter | None) -> int:
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    refuse_foreign_files(checkout)
    ensure_servers(checkout, server_places, way_to_root)
    ensure_venv(checkout, "dev", wanted)
    # Most tests wait for servers much of the time: three processes keep two cores busy, and
    # a fourth makes servers late that others wait for.
    # In the order they are found: the files with few, long tests must not be left for the end.
    tests = ["pytest", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
    steps = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], tests]
    if arguments:
        say("pytest alone runs, with the arguments given; ruff and mypy run without any")
        steps = [["pytest", *arguments]]
    failures: list[tuple[str, int]] = []
    for step in steps:
        say(shlex.join(step))
        code = run_step(checkout, step)
        if step is tests and code == TESTS_FAILED:
            code = second_try(checkout)
        if code == INTERRUPTED:
            return code
        if code != 0:
            failures.append((shlex.join(step), code))
    for step_name, code in failures:
        say(f"FAILED: {step_name} (exit {code})")
    return failures[0][1] if failures else 0


def second_try(checkout: Checkout) -> int:
    """Run what failed once more, alone: real servers on a machine that stalled can be too late.

    What fails again is wrong; what passes now is named by pytest's report above, and worth a look.
    """
    say("what failed is tried once more, alone: a test that passes now depends on time")
    again = ["pytest", "--last-failed", "--last-failed-no-failures", "none", "--maxfail", "8"]
    return run_step(checkout, again)


def bench(checkout: Checkout, arguments: list[str], wanted: Interpreter | None) -> int:
    ensure_servers(checkout, server_places, way_to_root)
    ensure_venv(checkout, "dev", wanted)
    if arguments and not arguments[0].startswith("-"):
        start(checkout, ["botswarm", "bench", *arguments])
    for name in ("broker", "orders"):
        if code := run_step(checkout, ["botswarm", "bench", name, *arguments]):
            return code
    return 0


def run(checkout: Checkout, arguments: list[str], wanted: Interpreter | None) -> int:
    """Any command of the development environment, set up first."""
    ensure_venv(checkout, "dev", wanted)
    start(checkout, arguments)


def lock(checkout: Checkout, arguments: list[str], wanted: Interpreter | None) -> int:
    """Resolve setup.cfg's ranges for every supported Python at once; pins stay if they fit."""
    with tempfile.TemporaryDirectory(prefix="botswarm-lock-") as folder:
        say("fetching uv, which resolves for several Python versions at once")
        subprocess.run([BASE_PYTHON, "-m", "venv", folder], check=True)
        quiet = ["-q", "--disable-pip-version-check"]
        subprocess.run([f"{folder}/bin/pip", "install", *quiet, "uv>=0.8,<1"], check=True)
        resolve = [f"{folder}/bin/uv", "pip", "compile", "-q", "--universal", "--generate-hashes"]
        resolve += ["--python-version", "3.11", "--custom-compile-command", "make lock"]
        resolve += [*arguments, "setup.cfg", "-"]  # "-" reads the build tools
        build_tools = "\n".join(build_requirements(checkout.root))
        # The tests run on the very versions that are deployed.
        extra: Mapping[Level, list[str]] = {
            "run": [],
            "dev": ["--extra", "dev", "-c", LOCK_FILES["run"]],
        }
        for level, target in LOCK_FILES.items():
            say(f"resolving {target}")
            command = [*resolve, *extra[level], "-o", target]
            subprocess.run(command, input=build_tools, text=True, check=True, cwd=checkout.root)
    return 0


def clean(checkout: Checkout, arguments: list[str], wanted: Interpreter | None) -> int:
    """Remove what set-up and tools made; the state folder .botswarm is data and stays."""
    refuse_foreign_files(checkout)
    with sole_setup(checkout):
        made = [*checkout.root.glob(".venv.removed-*"), checkout.venv, checkout.log]
        made += [checkout.root / name for name in ("build", "dist", "botswarm.egg-info")]
        made += [checkout.root / name for name in CACHES]
        for place in made:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
    return 0


def build_requirements(root: Path) -> list[str]:
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    return [str(requirement) for requirement in settings["build-system"]["requires"]]


def start(checkout: Checkout, command: list[str]) -> NoReturn:
    """Become the command, so that signals and the exit code need no passing on."""
    sys.stdout.flush()
    os.chdir(checkout.root)
    program = checkout.venv / "bin" / command[0]
    os.execve(program, command, environment(checkout.root))  # noqa: S606 - wanted without a shell


def run_step(checkout: Checkout, step: list[str]) -> int:
    program = str(checkout.venv / "bin" / step[0])
    running = subprocess.Popen(
        [program, *step[1:]], cwd=checkout.root, env=environment(checkout.root)
    )
    try:
        return running.wait()
    except KeyboardInterrupt:
        running.wait()  # it got the same signal: let it finish its own clearing up
        return INTERRUPTED


TASKS = {"up": up, "test": test, "bench": bench, "run": run, "lock": lock, "clean": clean}


def main(arguments: list[str]) -> int:
    task, *rest = arguments
    # PYTHON is a wish for one Python; without it any supported one that .venv holds will do.
    wanted = running_interpreter() if os.environ.get("PYTHON") else None
    try:
        return TASKS[task](Checkout(ROOT), rest, wanted)
    except SetupFailed as failure:
        say(str(failure))
        return failure.exit_code
    except subprocess.CalledProcessError as failure:
        say(f"{shlex.join(map(str, failure.cmd))} failed with exit code {failure.returncode}")
        return 1
    except OSError as failure:
        say(f"{failure.strerror or failure}: {failure.filename or 'no file named'}")
        return UNREACHABLE
    except KeyboardInterrupt:
        say("interrupted; the next run carries on")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

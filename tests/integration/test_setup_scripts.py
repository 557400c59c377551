"""The scripts that set up a checkout survive what machines and people do to them.

They run for real, on a small project of their own that installs without a network: its lock
files are empty and its build backend stands beside it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from scripts import bootstrap
from scripts.bootstrap import Checkout, Interpreter, SetupFailed

ROOT = Path(__file__).parent.parent.parent
REAL_PYTHON = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
DEADLINE_S = 90

# Makes a wheel with one module and one command per name. While a file "hold" exists it waits,
# so that a test can act at a moment when pip is known to be at work.
BACKEND = '''
import pathlib, time, zipfile

HERE = pathlib.Path(__file__).parent
MODULE = """
import os, sys
def main():
    name = os.path.basename(sys.argv[0])
    print("ran", name, *sys.argv[1:], flush=True)
    sys.exit(int(os.environ.get("EXIT_" + name.upper(), "0")))
"""

WHEEL = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"

def build_editable(folder, config_settings=None, metadata_directory=None):
    (HERE / "reached").touch()
    while (HERE / "hold").exists():
        time.sleep(0.02)
    name = "small-1-py3-none-any.whl"
    commands = "".join(f"{c} = small:main\\n" for c in ("botswarm", "ruff", "mypy", "pytest"))
    files = {
        "small.py": MODULE,
        "small-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n",
        "small-1.dist-info/WHEEL": WHEEL,
        "small-1.dist-info/entry_points.txt": "[console_scripts]\\n" + commands,
    }
    record = "".join(f"{file},,\\n" for file in [*files, "small-1.dist-info/RECORD"])
    with zipfile.ZipFile(pathlib.Path(folder) / name, "w") as wheel:
        for file, content in {**files, "small-1.dist-info/RECORD": record}.items():
            wheel.writestr(file, content)
    return name
'''


class Project:
    """A checkout with the real scripts and nothing heavy to install."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkout = Checkout(root)
        self.running: list[subprocess.Popen[str]] = []
        (root / "scripts").mkdir(parents=True)
        for name in ("with-python", "up", "test", "bootstrap.py"):
            shutil.copy(ROOT / "scripts" / name, root / "scripts" / name)
        (root / "backend.py").write_text(BACKEND)
        (root / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        (root / "setup.cfg").write_text("")
        for name in bootstrap.LOCK_FILES.values():
            (root / name).write_text("# nothing to install\n")

    def start(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHON"}
        process = subprocess.Popen(
            [self.root / "scripts" / script, *arguments],
            env=inherited | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def run(self, script: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
        return ended(self.start(script, *arguments, **environment))

    def end(self) -> None:
        (self.root / "hold").unlink(missing_ok=True)
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                stream.close()
            process.wait()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "checkout")
    yield made
    made.end()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """One that has been set up; tests that share it leave it as they found it."""
    made = Project(tmp_path_factory.mktemp("ready") / "checkout")
    code, out, err = made.run("up", "--flag", PYTHON=REAL_PYTHON)
    assert (code, out) == (0, "ran botswarm up --flag\n"), err
    yield made
    made.end()


# --- which Python ---------------------------------------------------------------------------


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def another_version(path: Path, version: str) -> Path:
    """A Python that takes itself for another version."""
    lie = f"import sys; sys.version_info = ({version}, 0, 'final', 0); exec(sys.argv[1])"
    return program(path, f'exec {REAL_PYTHON} -c "{lie}" "$2"')


def which_python(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Ask scripts/with-python on a PATH that holds nothing but ``folder`` and dirname."""
    script = folder.parent / "scripts" / "with-python"
    script.parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts" / "with-python", script)
    folder.mkdir(exist_ok=True)
    dirname = folder / "dirname"
    if not dirname.exists():
        dirname.symlink_to(shutil.which("dirname") or "/usr/bin/dirname")
    return subprocess.run(
        ["/bin/sh", script, "-c", "import sys; print(sys.argv[1:])", "an argument", "*"],
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_shim_that_fails_when_it_is_run_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python3.13", "echo 'python3.13: command not found' >&2; exit 127")
    program(tmp_path / "bin" / "python3", f'exec {REAL_PYTHON} "$@"')
    answer = which_python(tmp_path / "bin")
    assert (answer.stdout, answer.stderr) == ("['an argument', '*']\n", "")


@pytest.mark.parametrize("version", ["2, 7", "3, 10", "3, 14", "4, 11"])
def test_a_python_of_another_version_is_passed_over(tmp_path: Path, version: str) -> None:
    another_version(tmp_path / "bin" / "python3.13", version)
    program(tmp_path / "bin" / "python3.11", f'exec {REAL_PYTHON} "$@"')
    assert which_python(tmp_path / "bin").stdout == "['an argument', '*']\n"


@pytest.mark.parametrize("version", ["3, 11", "3, 12", "3, 13"])
def test_a_supported_python_is_taken(tmp_path: Path, version: str) -> None:
    another_version(tmp_path / "bin" / "python3", version)
    assert which_python(tmp_path / "bin").returncode == 0


def test_without_any_python_one_line_says_what_to_install(tmp_path: Path) -> None:
    answer = which_python(tmp_path / "bin")
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.count("\n") == 1
    assert "apt-get install python3 python3-venv" in answer.stderr


def test_the_variable_python_wins_over_path(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python3.13", "exit 9")
    assert which_python(tmp_path / "bin", PYTHON=REAL_PYTHON).returncode == 0


def test_a_variable_python_that_does_not_run_is_named(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "python3", f'exec {REAL_PYTHON} "$@"')
    answer = which_python(tmp_path / "bin", PYTHON="python9")
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "PYTHON=python9" in answer.stderr


# --- the virtual environment ----------------------------------------------------------------


def test_a_second_run_installs_nothing_and_says_nothing(ready: Project) -> None:
    made = ready.checkout.stamp.stat().st_mtime_ns
    assert ready.run("up") == (0, "ran botswarm up\n", "")
    assert ready.checkout.stamp.stat().st_mtime_ns == made


def test_the_exit_code_of_what_was_started_is_handed_on(ready: Project) -> None:
    assert ready.run("up", EXIT_BOTSWARM="6")[0] == 6


def test_variables_that_mislead_python_and_pip_are_kept_from_them(ready: Project) -> None:
    astray = {"PYTHONPATH": "/nowhere", "PIP_TARGET": "/nowhere", "PIP_USER": "1"}
    assert not set(astray) & set(environment_with(astray, ready.root))


def environment_with(variables: Mapping[str, str], root: Path) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        return bootstrap.environment(root)


def test_a_set_up_that_was_killed_is_begun_anew_when_its_pip_has_ended(project: Project) -> None:
    (project.root / "hold").touch()
    first = project.start("up")
    wait_until((project.root / "reached").exists, "pip to build the project")
    os.kill(first.pid, signal.SIGKILL)  # its pip lives on
    first.wait()
    assert project.checkout.unfinished.exists()
    assert not project.checkout.stamp.exists()

    second = project.start("up")
    assert second.stderr is not None
    assert "another set-up is at work" in second.stderr.readline()
    (project.root / "hold").unlink()
    code, out, err = ended(second)
    assert (code, out) == (0, "ran botswarm up\n"), err
    assert "an earlier set-up was interrupted" in err
    assert not project.checkout.unfinished.exists()
    assert list(project.root.glob(".venv.removed-*")) == []


def test_two_set_ups_at_once_make_one_environment(project: Project) -> None:
    (project.root / "hold").touch()
    first = project.start("up")
    wait_until((project.root / "reached").exists, "pip to build the project")
    second = project.start("up")
    assert second.stderr is not None
    waiting = second.stderr.readline()
    (project.root / "hold").unlink()
    (first_code, _, first_err), (second_code, _, second_err) = ended(first), ended(second)
    assert (first_code, second_code) == (0, 0)
    assert first_err.count("making .venv") == 1
    assert "another set-up is at work" in waiting
    assert second_err == ""


def test_a_pip_that_fails_is_shown_with_one_line_of_what_to_do(project: Project) -> None:
    (project.root / "backend.py").write_text("raise RuntimeError('a broken build')\n")
    code, _, err = project.run("up")
    assert code == 1
    assert "a broken build" in err
    last = err.splitlines()[-1]
    assert last.startswith("botswarm: pip could not install the project itself")
    assert str(project.checkout.log) in last
    assert "bootstrap.py" not in err, "a traceback of the bootstrap itself was shown"


# --- what makes an environment stale --------------------------------------------------------


def this_python(checkout: Checkout) -> Interpreter:
    found = bootstrap.interpreter_of(checkout)
    assert found is not None
    return found


@pytest.fixture
def stamped(tmp_path: Path) -> Checkout:
    """Looks set up to the bootstrap: a Python that runs, and a stamp that fits."""
    checkout = Project(tmp_path / "checkout").checkout
    checkout.python.parent.mkdir(parents=True)
    checkout.python.symlink_to(REAL_PYTHON)
    bootstrap.write_stamp(checkout, "dev")
    assert bootstrap.is_ready(checkout, "dev", None)
    return checkout


@pytest.mark.parametrize("name", ["requirements-dev.lock", "setup.cfg", "pyproject.toml"])
def test_a_changed_file_makes_it_stale(stamped: Checkout, name: str) -> None:
    with (stamped.root / name).open("a") as file:
        file.write("# changed\n")
    assert not bootstrap.is_ready(stamped, "dev", None)


def test_development_packages_serve_a_run_but_not_the_other_way_round(stamped: Checkout) -> None:
    assert bootstrap.is_ready(stamped, "run", None)
    bootstrap.write_stamp(stamped, "run")
    assert bootstrap.is_ready(stamped, "run", None)
    assert not bootstrap.is_ready(stamped, "dev", None)


def test_a_torn_stamp_counts_as_none(stamped: Checkout) -> None:
    stamped.stamp.write_text(stamped.stamp.read_text()[:20])
    assert stamped.read_stamp() is None
    assert not bootstrap.is_ready(stamped, "dev", None)


def test_a_mark_of_unfinished_work_outweighs_a_stamp(stamped: Checkout) -> None:
    stamped.unfinished.touch()
    assert not bootstrap.is_ready(stamped, "dev", None)
    assert bootstrap.reason_to_rebuild(stamped, None) == "an earlier set-up was interrupted"


def test_a_python_that_vanished_is_noticed(stamped: Checkout) -> None:
    stamped.python.unlink()
    stamped.python.symlink_to("/nowhere/python3")
    assert not bootstrap.is_ready(stamped, "dev", None)
    assert bootstrap.reason_to_rebuild(stamped, None) == "its Python is gone"


def test_a_wish_for_another_python_is_followed(stamped: Checkout) -> None:
    actual = this_python(stamped)
    assert bootstrap.is_ready(stamped, "dev", actual)
    for other in (replace(actual, version="3.99.0"), replace(actual, base_prefix="/opt/other")):
        assert not bootstrap.is_ready(stamped, "dev", other)
        assert "it holds Python" in (bootstrap.reason_to_rebuild(stamped, other) or "")


def test_a_moved_checkout_is_noticed(stamped: Checkout) -> None:
    moved = Checkout(stamped.root.rename(stamped.root.with_name("moved")))
    assert not bootstrap.is_ready(moved, "dev", None)
    assert bootstrap.reason_to_rebuild(moved, None) == "the checkout was moved"


# --- the servers ----------------------------------------------------------------------------

PROGRAMS = [name for server in bootstrap.SERVERS for name in server.programs]


def test_servers_that_are_missing_are_named_in_one_line(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "redis-server", "exit 0")
    with pytest.raises(SetupFailed) as failure:
        bootstrap.ensure_servers(
            Checkout(tmp_path), places=lambda: [tmp_path / "bin"], become_root=lambda: None
        )
    assert failure.value.exit_code == 5
    missing = [server for server in bootstrap.SERVERS if server.name != "Redis"]
    names = ", ".join(server.name for server in missing)
    packages = " ".join(server.package for server in missing)
    assert str(failure.value) == (
        f"the tests need {names}, not found here; install: {packages} "
        f"(Debian: apt-get install {packages})"
    )


def test_a_server_needs_all_its_programs(tmp_path: Path) -> None:
    for name in PROGRAMS:
        program(tmp_path / name, "exit 0")
    assert bootstrap.missing_servers([tmp_path]) == []
    (tmp_path / "pg_ctl").chmod(0o644)
    assert [server.name for server in bootstrap.missing_servers([tmp_path])] == ["PostgreSQL"]


def test_missing_servers_are_installed_where_that_is_allowed(tmp_path: Path) -> None:
    bin_, asked = tmp_path / "bin", tmp_path / "asked"
    install = "; ".join(f"cp {tmp_path / 'sudo'} {bin_ / name}" for name in PROGRAMS)
    sudo = program(tmp_path / "sudo", f'echo "$@" > {asked}; mkdir {bin_}; {install}')
    bootstrap.ensure_servers(
        Checkout(tmp_path), places=lambda: [bin_], become_root=lambda: [str(sudo)]
    )
    packages = " ".join(server.package for server in bootstrap.SERVERS)
    assert asked.read_text().endswith(f"apt_get_install {packages}\n")


def test_an_installation_that_brings_nothing_is_not_believed(tmp_path: Path) -> None:
    sudo = program(tmp_path / "sudo", "exit 0")
    with pytest.raises(SetupFailed, match="not found even after"):
        bootstrap.ensure_servers(
            Checkout(tmp_path), places=lambda: [tmp_path], become_root=lambda: [str(sudo)]
        )


def test_an_installation_that_fails_shows_its_last_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sudo = program(tmp_path / "sudo", "echo E: no such mirror; exit 100")
    with pytest.raises(SetupFailed, match="apt-get could not install"):
        bootstrap.ensure_servers(
            Checkout(tmp_path), places=lambda: [tmp_path / "bin"], become_root=lambda: [str(sudo)]
        )
    assert "E: no such mirror" in capfd.readouterr().err


# --- what scripts/test runs -----------------------------------------------------------------


TESTS = "pytest -n 3 --dist loadfile --no-loadscope-reorder"


def test_all_checks_run_and_the_first_failure_gives_the_exit_code(ready: Project) -> None:
    code, out, err = ready.run("test", EXIT_MYPY="3", EXIT_PYTEST="5")
    ran = [line.removeprefix("ran ") for line in out.splitlines()]
    assert ran == ["ruff check .", "ruff format --check .", "mypy", TESTS]
    assert code == 3
    assert [line for line in err.splitlines() if "FAILED" in line] == [
        "botswarm: FAILED: mypy (exit 3)",
        f"botswarm: FAILED: {TESTS} (exit 5)",
    ]


def test_failed_tests_are_tried_once_more_alone_and_stay_failed(ready: Project) -> None:
    code, out, err = ready.run("test", EXIT_PYTEST="1")
    again = "ran pytest --last-failed --last-failed-no-failures none --maxfail 8"
    assert out.splitlines()[-2:] == [f"ran {TESTS}", again]
    assert "tried once more" in err
    assert code == 1


def test_arguments_go_to_pytest_alone_and_it_says_so(ready: Project) -> None:
    code, out, err = ready.run("test", "--", "tests/unit", "-k", "one or other")
    assert (code, out) == (0, "ran pytest tests/unit -k one or other\n")
    assert "pytest alone runs" in err
    assert shlex.quote("one or other") in err


def test_continuous_integration_runs_the_tests_and_says_that_it_is_one(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    program(tmp_path / "scripts" / "test", 'echo "CI=$CI"; exit 7')
    answer = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (7, "CI=true\n")

"""What can be held true of the image and the compose file without a container engine."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker" / "compose.yaml").read_text()


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), comments dropped and lines joined."""
    kept = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", kept)
    pairs = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in pairs]


def last_stage() -> list[tuple[str, str]]:
    everything = instructions()
    starts = [number for number, (word, _) in enumerate(everything) if word == "FROM"]
    assert len(starts) == 2
    return everything[starts[-1] :]


def argument(name: str) -> str:
    found = [rest for word, rest in last_stage() if word == name]
    assert len(found) == 1, f"{len(found)} lines of {name} in the last stage"
    return found[0]


def services() -> dict[str, str]:
    """The text of each service: YAML by its indentation, of which compose.yaml uses two spaces."""
    body = COMPOSE.partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    parts = re.split(r"^  ([a-z]+):\n", body, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_file_that_the_image_copies_exists_and_is_let_through() -> None:
    let_through = (ROOT / ".dockerignore").read_text().splitlines()
    copies = [rest.split()[:-1] for word, rest in instructions() if word == "COPY"]
    names = [name for sources in copies for name in sources if not name.startswith(("--", "/"))]
    assert "requirements.lock" in names
    assert [name for name in names if not (ROOT / name).exists()] == []
    assert [name for name in names if f"!{name}" not in let_through] == []


def test_the_build_context_starts_empty() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*", "what is not named must stay outside: .env holds secrets"


def test_the_image_installs_hashed_versions_and_nothing_else() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert "--require-hashes -r requirements.lock" in installs[0]
    assert "--no-deps --no-build-isolation ." in installs[1]


def test_the_image_does_not_run_as_root() -> None:
    assert argument("USER") == "10001:10001"
    home = argument("WORKDIR")
    runs = " ".join(rest for word, rest in last_stage() if word == "RUN")
    assert f"install -d -o 10001 -g 10001 -m 0700 {home}" in runs


def test_the_image_hands_signals_on_and_reaps_children() -> None:
    assert argument("STOPSIGNAL") == "SIGTERM"
    assert argument("ENTRYPOINT") == '["tini", "--"]'
    assert "tini" in " ".join(rest for word, rest in last_stage() if word == "RUN")


def test_the_image_runs_the_whole_swarm_and_asks_it_how_it_is() -> None:
    assert argument("CMD") == '["botswarm", "run", "all"]'
    assert argument("HEALTHCHECK").endswith(" CMD botswarm ps --json || exit 1")


def test_the_image_is_built_with_the_procfile_that_the_package_links_to() -> None:
    packaged = ROOT / "botswarm" / "supervisor" / "Procfile"
    assert packaged.resolve() == ROOT / "Procfile"
    assert "Procfile" in next(line for line in DOCKERFILE.splitlines() if "LICENSE" in line)


def test_the_compose_file_has_the_three_servers_and_each_says_when_it_is_well() -> None:
    assert set(services()) == {"rabbitmq", "redis", "postgres"}
    for name, text in services().items():
        assert "    healthcheck:\n      test: [" in text, f"{name} has no health check"
        assert f"      - {name}:/" in text, f"{name} keeps its data in no volume"


def test_every_port_is_published_on_loopback_only() -> None:
    ports = [
        line.strip()
        for text in services().values()
        for line in text.partition("    ports:\n")[2].partition("    volumes:\n")[0].splitlines()
    ]
    assert len(ports) == 4
    assert [port for port in ports if not re.fullmatch(r'- "127\.0\.0\.1:\d+:\d+"', port)] == []


def test_every_password_must_come_from_the_environment() -> None:
    secrets = re.findall(r"^ +(\w*(?:PASS|PASSWORD|AUTH)): (.*)$", COMPOSE, re.MULTILINE)
    assert len(secrets) == 3
    for name, value in secrets:
        assert re.fullmatch(r"\$\{[A-Z_]+:\?set [A-Z_]+ .+\}", value), f"{name} has a value here"


def test_the_compose_file_has_no_tabs_and_every_line_is_indented_by_twos() -> None:
    for number, line in enumerate(COMPOSE.splitlines(), 1):
        assert "\t" not in line, f"line {number}"
        assert (len(line) - len(line.lstrip(" "))) % 2 == 0, f"line {number}"

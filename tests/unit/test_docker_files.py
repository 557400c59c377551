"""What can be held true of the image and the compose file without a container engine."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from botswarm.config import load
from tests.dockerfile import ROOT, TEXT, argument, instructions, last_stage

DOCKER = ROOT / "docker"
COMPOSE = (DOCKER / "compose.yaml").read_text()
SERVERS = {"rabbitmq", "redis", "postgres"}
CHANNELS = ("email", "slack", "telegram", "pagerduty", "webhook")
OPTIONAL = ("backup_key", *(f"notify_{channel}_url" for channel in CHANNELS))


@pytest.fixture(scope="module")
def services() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load(COMPOSE)["services"]
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder in which a person has followed compose.yaml's first lines."""
    folder = tmp_path_factory.mktemp("compose") / "docker"
    (folder / "env").mkdir(parents=True)
    for example in (DOCKER / "env").glob("*.example"):
        (folder / "env" / example.stem).write_text(example.read_text())
    # Compose before 2.3 knows no name of the project in the file; only its checks are wanted here.
    (folder / "compose.yaml").write_text(re.sub(r"(?m)^name: .*\n", "", COMPOSE))
    (folder / "make-secrets").write_text((DOCKER / "make-secrets").read_text())
    subprocess.run(["sh", folder / "make-secrets"], check=True, capture_output=True)
    return folder


# --- the image ------------------------------------------------------------------------------------


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


def test_the_image_is_built_with_the_procfile_that_the_package_links_to() -> None:
    packaged = ROOT / "botswarm" / "supervisor" / "Procfile"
    assert packaged.resolve() == ROOT / "Procfile"
    assert "Procfile" in next(line for line in TEXT.splitlines() if "LICENSE" in line)


# --- the compose file -----------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["single", "prod", "monitoring"])
def test_compose_itself_finds_nothing_wrong_with_a_profile(made: Path, profile: str) -> None:
    done = subprocess.run(
        ["docker-compose", "-f", made / "compose.yaml", "--profile", profile, "config", "-q"],
        capture_output=True,
        text=True,
        env={"PATH": os.defpath, "HOME": str(made)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_prod_has_a_container_for_each_line_of_the_procfile(services: Mapping[str, Any]) -> None:
    lines = (ROOT / "Procfile").read_text().splitlines()
    commands = {name: command for name, _, command in (line.partition(": ") for line in lines)}
    for name in ("broker", "exchange", "paper"):  # production has servers and venues instead
        del commands[name]
    prod = {name: each for name, each in services.items() if "prod" in each["profiles"]}
    assert set(prod) == set(commands) | SERVERS
    assert {name: " ".join(prod[name]["command"]) for name in commands} == commands


def test_prometheus_asks_every_container_of_ours_that_stays(services: Mapping[str, Any]) -> None:
    ours = {
        name
        for name, each in services.items()
        if "prod" in each["profiles"] and each["image"].startswith("botswarm:")
    }
    config = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    asked = {target for each in job["static_configs"] for target in each["targets"]}
    assert asked == {f"{name}:8080" for name in ours - {"release"}}


def test_every_server_says_when_it_is_well_and_keeps_its_data(services: Mapping[str, Any]) -> None:
    for name in SERVERS:
        assert services[name]["healthcheck"]["test"], f"{name} has no health check"
        assert [each for each in services[name]["volumes"] if each.startswith(f"{name}:/")]


def test_nothing_of_ours_may_write_outside_its_volumes(services: Mapping[str, Any]) -> None:
    for name, each in services.items():
        if each["image"].startswith("botswarm:"):
            assert each["read_only"] is True, name
            assert each["cap_drop"] == ["ALL"], name
            assert each["security_opt"] == ["no-new-privileges:true"], name
            assert int(each["stop_grace_period"].removesuffix("s")) >= 30, name
            homes = (argument("WORKDIR"), argument("WORKDIR") + "-backups")
            assert all(mount.endswith(homes) for mount in each.get("volumes", ())), name


def test_every_port_is_published_on_loopback_only(services: Mapping[str, Any]) -> None:
    ports = [port for each in services.values() for port in each.get("ports", ())]
    assert len(ports) >= 6
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []


def test_what_monitoring_mounts_is_there(services: Mapping[str, Any]) -> None:
    monitoring = {n: each for n, each in services.items() if "monitoring" in each["profiles"]}
    assert set(monitoring) == {"prometheus", "alertmanager", "grafana"}
    mounts = [mount for each in monitoring.values() for mount in each["volumes"]]
    folders = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]
    assert len(folders) == 4
    assert [folder for folder in folders if not (DOCKER / folder).is_dir()] == []


def test_every_secret_is_a_file_that_nobody_commits(
    services: Mapping[str, Any], made: Path
) -> None:
    secrets = {name: each["file"] for name, each in yaml.safe_load(COMPOSE)["secrets"].items()}
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "docker/env/*.env" in (ROOT / ".gitignore").read_text().splitlines()
    for name, file in secrets.items():
        assert file.startswith("secrets/"), name
        assert (made / file).read_text(), f"make-secrets makes no {file}"
    words = re.compile(r"pass|secret|key|token|url", re.IGNORECASE)
    for name, each in services.items():
        for variable in each.get("environment", {}):
            if variable == "GF_SECURITY_ADMIN_USER":
                continue  # "security" is no secret, and Grafana's user none either
            assert variable.endswith("_FILE") or not words.search(variable), (name, variable)


def test_the_secrets_stay_the_same_and_only_their_owner_may_enter(made: Path) -> None:
    before = {path: path.read_text() for path in (made / "secrets").iterdir()}
    subprocess.run(["sh", made / "make-secrets"], check=True, capture_output=True)
    assert {path: path.read_text() for path in (made / "secrets").iterdir()} == before
    assert (made / "secrets").stat().st_mode & 0o777 == 0o700


def test_whom_to_tell_and_what_seals_backups_may_be_a_file_in_every_role(
    services: Mapping[str, Any],
) -> None:
    for name, each in services.items():
        if not (each["image"].startswith("botswarm:") and "prod" in each["profiles"]):
            continue
        for secret in OPTIONAL:
            place = f"/run/secrets/{secret}"
            assert each["environment"][f"BOTSWARM_{secret.upper()}_FILE"] == place, name
            assert secret in each["secrets"], name


def test_the_settings_of_prod_are_taken_as_they_come(
    services: Mapping[str, Any], made: Path
) -> None:
    """The environment of each role, with the files where they stand in the test."""
    lines = (made / "env" / "prod.env").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    shared = {name: value for name, _, value in pairs}
    for name in ("orders", "flower"):
        given = {
            variable: value.replace("/run/secrets/", f"{made}/secrets/")
            for variable, value in {**shared, **services[name]["environment"]}.items()
        }
        loaded = load(environ=given, folder=made).settings
        assert loaded.env == "production"
        assert loaded.database_url.reveal().partition("@")[2] == "postgres:5432/botswarm"
        assert not any(getattr(loaded, name) for name in OPTIONAL), "empty, and so unset"
        assert loaded.broker_url is not None

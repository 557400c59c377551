"""What can be held true of the Kubernetes manifests without a cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from botswarm import __version__
from botswarm.alerts.prometheus import ROLES
from botswarm.cli import botswarm
from botswarm.config import load
from botswarm.config.table import SETTINGS
from botswarm.health.pages import LIVE, READY
from tests.dockerfile import ROOT, argument

DOCKER = ROOT / "docker"
FOLDER = DOCKER / "kubernetes"
OVERLAYS = ("staging", "production")
KINDS = ("Deployment", "StatefulSet")
SECRET_PLACES = ("/run/secrets", "/run/flower")
SECRET_VARIABLES = {setting.variable for setting in SETTINGS if setting.secret}
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rendered:
    """An overlay as it is sent to a cluster."""

    name: str
    documents: Sequence[Document]

    def of(self, *kinds: str) -> Mapping[str, Document]:
        return {each["metadata"]["name"]: each for each in self.documents if each["kind"] in kinds}

    @property
    def processes(self) -> Mapping[str, Document]:
        return self.of(*KINDS)

    @property
    def shared(self) -> Mapping[str, str]:
        (found,) = self.of("ConfigMap").values()
        values: Mapping[str, str] = found["data"]
        return values

    def environment(self, container: Document) -> Mapping[str, str]:
        own = {each["name"]: each.get("value", "a-pod-0") for each in container["env"]}
        return {**self.shared, **own}


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed, so nothing puts the patches together")
    done = subprocess.run(
        [kubectl, "kustomize", FOLDER / request.param], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return Rendered(request.param, list(yaml.safe_load_all(done.stdout)))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kubernetes")
    shutil.copy(DOCKER / "make-secrets", folder)
    subprocess.run(["sh", folder / "make-secrets"], check=True, capture_output=True)
    return folder / "secrets"


def pod(process: Document) -> Document:
    found: Document = process["spec"]["template"]["spec"]
    return found


def main(process: Document) -> Document:
    (found,) = pod(process)["containers"]
    return dict(found)


def containers(rendered: Rendered) -> Iterator[tuple[str, Document, Document]]:
    """With their process's name and their pod."""
    for name, process in rendered.processes.items():
        spec = pod(process)
        for each in (*spec["containers"], *spec.get("initContainers", ())):
            yield name, spec, each


def compose() -> Mapping[str, Any]:
    found: Mapping[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    ours = {name: each for name, each in found.items() if each["image"].startswith("botswarm:")}
    return {name: each for name, each in ours.items() if "prod" in each["profiles"]}


def lines_of_production() -> Mapping[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    commands = {name: command for name, _, command in (line.partition(": ") for line in lines)}
    # Production has servers and venues instead.
    return {name: command for name, command in commands.items() if name in compose()}


def test_every_file_is_yaml_and_is_named_by_a_kustomization() -> None:
    for folder in (FOLDER / "base", *(FOLDER / name for name in OVERLAYS)):
        own = folder / "kustomization.yaml"
        found = yaml.safe_load(own.read_text())
        patches = [each["path"] for each in found.get("patches", ())]
        there = {path.name for path in folder.iterdir()}
        named = {name for name in (*found["resources"], *patches) if not name.startswith("..")}
        assert there == named | {own.name}, folder.name
        for path in folder.iterdir():
            assert all(isinstance(each, dict) for each in yaml.safe_load_all(path.read_text()))


# --- the processes --------------------------------------------------------------------------------


def test_each_line_of_the_procfile_has_a_process_with_that_very_command(
    rendered: Rendered,
) -> None:
    wanted = dict(lines_of_production())
    release = wanted.pop("release")
    found = {name: " ".join(main(each)["args"]) for name, each in rendered.processes.items()}
    assert found == wanted
    first = [each for _, _, each in containers(rendered) if each["name"] == "release"]
    assert {" ".join(each["args"]) for each in first} == {release}


def test_the_image_s_entry_point_stays_and_hands_signals_on(rendered: Rendered) -> None:
    assert argument("ENTRYPOINT") == '["tini", "--"]'
    assert [name for name, _, each in containers(rendered) if "command" in each] == []


def test_every_command_is_one_that_the_program_has(rendered: Rendered) -> None:
    for name, _, each in containers(rendered):
        program, *words = each["args"]
        assert program == "botswarm"
        command: click.Command = botswarm
        while isinstance(command, click.Group):
            following = command.get_command(click.Context(command), words.pop(0))
            assert following is not None, name
            command = following
        command.make_context(command.name, words)


def test_what_cannot_work_without_the_ledger_waits_until_its_tables_are_there(
    rendered: Rendered,
) -> None:
    waiting = {name for name, _, each in containers(rendered) if each["name"] == "release"}
    assert waiting == {"strategy", "orders", "ops", "archive"}


def test_what_must_be_one_is_never_two(rendered: Rendered) -> None:
    for name in ("orders", "archive", "flower"):
        process = rendered.processes[name]
        assert (process["kind"], process["spec"]["replicas"]) == ("StatefulSet", 1), name


def test_production_keeps_two_of_what_may_run_twice() -> None:
    for name in ("strategy", "ops", "beat", "feed"):
        (process,) = yaml.safe_load_all((FOLDER / "base" / f"{name}.yaml").read_text())
        assert process["spec"]["replicas"] == 2, name
    assert "replicas" not in yaml.safe_load((FOLDER / "production/kustomization.yaml").read_text())


def test_a_node_can_be_emptied_without_a_kind_being_lost_whole(rendered: Rendered) -> None:
    budgets = rendered.of("PodDisruptionBudget")
    assert set(budgets) == set(rendered.processes)
    for name, process in rendered.processes.items():
        assert budgets[name]["spec"]["maxUnavailable"] == 1
        wanted = budgets[name]["spec"]["selector"]["matchLabels"]
        assert wanted == process["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= process["spec"]["template"]["metadata"]["labels"].items()


# --- probes and ports -----------------------------------------------------------------------------


def test_probes_ask_pages_that_a_process_has_at_the_port_where_it_answers(
    rendered: Rendered,
) -> None:
    for name, process in rendered.processes.items():
        container = main(process)
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert str(ports["health"]) == rendered.shared["BOTSWARM_HEALTH_PORT"]
        assert str(ports["metrics"]) == rendered.shared["BOTSWARM_METRICS_PORT"]
        for probe, page in (("startup", LIVE), ("liveness", LIVE), ("readiness", READY)):
            asked = container[f"{probe}Probe"]["httpGet"]
            assert (asked["path"], asked["port"]) == (page, "health"), (name, probe)
    assert rendered.shared["BOTSWARM_HEALTH_HOST"] == "0.0.0.0"  # noqa: S104 - in a pod


def test_every_service_and_rule_of_the_network_names_a_port_that_there_is(
    rendered: Rendered,
) -> None:
    ports = {port["name"] for each in rendered.processes.values() for port in main(each)["ports"]}
    (policy,) = rendered.of("NetworkPolicy").values()
    named = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    services = rendered.of("Service")
    named |= {port["targetPort"] for each in services.values() for port in each["spec"]["ports"]}
    assert named <= ports
    for process in rendered.of("StatefulSet").values():
        assert process["spec"]["serviceName"] in services
    flower = main(rendered.processes["flower"])
    (port,) = [each["containerPort"] for each in flower["ports"] if each["name"] == "flower"]
    assert str(port) == rendered.environment(flower)["BOTSWARM_FLOWER_PORT"]


def test_processes_carry_the_labels_that_alerts_are_told_apart_by(rendered: Rendered) -> None:
    for name, process in rendered.processes.items():
        labels = process["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] == name
        assert labels["instance_type"] == ROLES[name]
        assert labels["environment"] == rendered.name


def test_prometheus_finds_pods_by_the_labels_and_the_port_that_they_have(
    rendered: Rendered,
) -> None:
    config = yaml.safe_load((DOCKER / "prometheus/kubernetes.yml").read_text())
    (job,) = config["scrape_configs"]
    chosen, *given = job["relabel_configs"]
    for process in rendered.processes.values():
        found = {
            re.sub(r"\W", "_", f"__meta_kubernetes_pod_label_{name}"): value
            for name, value in process["spec"]["template"]["metadata"]["labels"].items()
        }
        found |= {"__meta_kubernetes_pod_name": "a-pod-0"}
        assert {each["source_labels"][0] for each in given} <= set(found)
        ports = [each["name"] for each in main(process)["ports"]]
        name, _ = chosen["source_labels"]
        asked = [port for port in ports if f"{found[name]};{port}" == chosen["regex"]]
        assert asked == ["metrics"], "a pod is asked once"


# --- settings and secrets -------------------------------------------------------------------------


def test_the_settings_of_every_container_are_taken_as_they_come(
    rendered: Rendered, secrets: Path, tmp_path: Path
) -> None:
    """A name that is no setting, or a value that it does not take, is refused by the reader."""
    places = re.compile("|".join(SECRET_PLACES))
    for name, _, container in containers(rendered):
        given = rendered.environment(container)
        there = {each: places.sub(str(secrets), value) for each, value in given.items()}
        settings = load(environ=there, folder=tmp_path).settings
        assert settings.env == rendered.name, name
        assert settings.instance_id == "a-pod-0"
        assert settings.broker_url is not None
        assert settings.redis_url is not None
        assert settings.database_url.reveal().startswith("postgresql")


def test_no_secret_stands_in_an_environment_and_each_is_mounted_where_it_is_read(
    rendered: Rendered, secrets: Path
) -> None:
    assert rendered.of("Secret") == {}
    for name, spec, container in containers(rendered):
        given = rendered.environment(container)
        assert set(given) & SECRET_VARIABLES == set(), name
        read = {value for variable, value in given.items() if variable.endswith("_FILE")}
        assert read == _mounted_secrets(spec, container), name
        assert {place.rpartition("/")[2] for place in read} <= {p.name for p in secrets.iterdir()}


def _mounted_secrets(spec: Document, container: Document) -> set[str]:
    places = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    return {
        f"{places[volume['name']]}/{item['path']}"
        for volume in spec["volumes"]
        if "secret" in volume and volume["name"] in places
        for item in volume["secret"]["items"]
        if item["key"] == item["path"]
    }


def test_the_environment_is_that_of_the_compose_file(rendered: Rendered) -> None:
    for name, each in compose().items():
        if name == "release":
            continue
        ours = rendered.environment(main(rendered.processes[name]))
        assert set(each["environment"]) - set(ours) == set(), name


# --- what a process may ---------------------------------------------------------------------------


def test_nothing_runs_as_root_or_may_write_outside_its_volumes(rendered: Rendered) -> None:
    user, group = map(int, argument("USER").split(":"))
    for name, spec, container in containers(rendered):
        who = spec["securityContext"]
        assert who["runAsNonRoot"] is True, name
        assert (who["runAsUser"], who["runAsGroup"], who["fsGroup"]) == (user, group, group)
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False


def test_a_service_of_kubernetes_sets_no_setting_of_ours(rendered: Rendered) -> None:
    """BOTSWARM_FLOWER_PORT=tcp://10.0.0.1:5555 is what a Service botswarm-flower would set."""
    assert all(spec["enableServiceLinks"] is False for _, spec, _ in containers(rendered))


def test_a_process_has_as_long_to_stop_as_in_the_compose_file(rendered: Rendered) -> None:
    for name, process in rendered.processes.items():
        wanted = int(compose()[name]["stop_grace_period"].removesuffix("s"))
        assert pod(process)["terminationGracePeriodSeconds"] == wanted >= 30, name


def test_a_process_writes_where_it_does_in_the_compose_file(rendered: Rendered) -> None:
    for name, process in rendered.processes.items():
        mounts = main(process)["volumeMounts"]
        written = {each["mountPath"] for each in mounts if not each.get("readOnly")}
        volumes = {mount.partition(":")[2] for mount in compose()[name]["volumes"]}
        assert written == volumes | {"/tmp"}, name  # noqa: S108 - a mount
        made = {each["name"] for each in pod(process)["volumes"]}
        made |= {
            each["metadata"]["name"] for each in process["spec"].get("volumeClaimTemplates", ())
        }
        assert {each["name"] for each in mounts} == made, name


def test_every_container_is_of_this_version_and_says_what_it_takes(rendered: Rendered) -> None:
    for name, _, container in containers(rendered):
        assert container["image"] == f"botswarm:{__version__}", name
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name

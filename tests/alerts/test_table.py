"""The table of alerts and what is made of it: files, dashboards and pages that hold together."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from botswarm import metrics
from botswarm.alerts import boards, pages, prometheus
from botswarm.alerts.board import NAME, Line, Panel
from botswarm.alerts.rule import Check, Rule, Trial
from botswarm.alerts.rules import BY_NAME, RULES, of_check, of_event
from botswarm.cli import COMMANDS, botswarm
from botswarm.cli.command import PROFILES
from botswarm.domain.alert import URGENCY
from botswarm.domain.limits import LimitKind
from botswarm.health import table as checks
from botswarm.programs import find_program

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
FILES = {**prometheus.files(), **boards.files()}
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
PANELS = [(board, panel) for board in boards.BOARDS for panel in board.panels]
LINES = [line for _, panel in PANELS for line in panel.lines]
EXPRESSIONS = [*(rule.expression for rule in RULES), *(line.expression for line in LINES)]
OF_TARGETS = {"job", "instance", "process", "instance_type", "environment", "le"}
"""Labels that every series has by the way it was scraped, or its kind."""


def run(program: str, package: str, *words: object) -> str:
    done = subprocess.run(
        [find_program(program, package=package), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


# --- files ------------------------------------------------------------------------------------


def test_the_files_in_docker_are_those_that_the_table_makes() -> None:
    stale = [str(place) for place, text in FILES.items() if (DOCKER / place).read_text() != text]
    assert not stale, "run: botswarm alert files"
    folders = ("prometheus", "alertmanager", "grafana")
    there = {
        path.relative_to(DOCKER)
        for folder in folders
        for path in (DOCKER / folder).rglob("*")
        if path.is_file()
    }
    assert there == set(FILES)


def test_prometheus_takes_the_rules_and_the_targets() -> None:
    for name in ("prometheus.yml", "one-machine.yml"):
        said = run("promtool", "prometheus", "check", "config", DOCKER / "prometheus" / name)
        assert "SUCCESS" in said
    found = re.findall(r"(\d+) rules found", said)
    assert sum(map(int, found)) == len(RULES)


def test_prometheus_takes_the_labels_it_is_to_give_to_pods(tmp_path: Path) -> None:
    """Debian's is built without Kubernetes, so that it looks for pods is not checked."""
    text = FILES[Path("prometheus/kubernetes.yml")]
    found = text.replace("kubernetes_sd_configs:\n      - role: pod", "static_configs: []")
    assert found != text
    (tmp_path / "checked.yml").write_text(found)
    assert "SUCCESS" in run("promtool", "prometheus", "check", "config", tmp_path / "checked.yml")


@pytest.mark.parametrize("group", prometheus.GROUPS)
def test_each_rule_fires_on_what_is_wrong_and_is_silent_on_what_is_just_right(group: str) -> None:
    """promtool runs every rule over series of an hour; a changed number or name fails here."""
    run("promtool", "prometheus", "test", "rules", DOCKER / "prometheus/trials" / f"{group}.yml")


def test_every_rule_is_tried_both_ways() -> None:
    for rule in RULES:
        assert [trial for trial in trials_of(rule) if not trial.quiet] == [], rule.name


def trials_of(rule: Rule) -> list[Trial]:
    return [rule.trial, *rule.more_trials.values()]


def environments_of(name: str) -> dict[str, Trial]:
    return {trial.labels.get("environment", ""): trial for trial in trials_of(BY_NAME[name])}


def test_a_feed_s_health_is_held_to_its_environment_s_numbers_and_tried_in_each() -> None:
    tried = environments_of("FeedHealthLow")
    just_right = {name: next(iter(trial.quiet.values())) for name, trial in tried.items()}
    numbers = {"production": "0.5", "staging": "0.3", "development": "0.1", "": "0.5"}
    assert just_right == {name: f"{number}x60" for name, number in numbers.items()}
    assert set(environments_of("FeedHealthCritical")) == set(tried)


def test_the_compose_file_s_processes_are_of_the_environment_that_is_named() -> None:
    place = Path("prometheus/prometheus.yml")
    for environment in PROFILES:
        text = prometheus.files(environment)[place]
        assert set(re.findall(r'"environment": "(\w+)"', text)) == {environment}
    assert prometheus.files()[place] == prometheus.files("production")[place]


def test_alertmanager_takes_its_file_and_sends_each_severity_its_own_way() -> None:
    file = DOCKER / "alertmanager/alertmanager.yml"
    assert "SUCCESS" in run("amtool", "prometheus-alertmanager", "check-config", file)
    for severity in URGENCY:
        words = ("config", "routes", "test", f"--config.file={file}", f"severity={severity.value}")
        said = run("amtool", "prometheus-alertmanager", *words)
        assert said.strip() == severity.value


# --- what they speak of -----------------------------------------------------------------------


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_names_metrics_that_exist_and_labels_that_they_have(
    expression: str,
) -> None:
    names = NAME.findall(expression)
    assert [name for name in names if name not in metrics.NAMES] == []
    known = {label for name in names for label in metrics.NAMES[name].label_names} | OF_TARGETS
    assert _labels(expression) - known == set()


def _labels(expression: str) -> set[str]:
    in_selectors = re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    grouped = re.findall(r"(?:by|on|ignoring|group_left|group_right) \(([a-z_, ]*)\)", expression)
    words = [word.strip() for part in grouped for word in part.split(",")]
    return {*in_selectors, *words} - {""}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_only_what_counts_is_reckoned_as_a_rate(expression: str) -> None:
    for name in re.findall(r"(?:rate|increase)\((botswarm_[a-z0-9_]+)", expression):
        assert metrics.NAMES[name].kind in ("counter", "histogram"), name


def test_names_are_given_once() -> None:
    assert len(BY_NAME) == len(RULES)


@each_rule
def test_a_rule_that_explains_another_exists_and_is_no_less_urgent(rule: Rule) -> None:
    for name in rule.explained_by:
        assert URGENCY[BY_NAME[name].severity] >= URGENCY[rule.severity], name


def test_no_two_rules_explain_one_another_away() -> None:
    def explains(name: str) -> Iterator[str]:
        for other in BY_NAME[name].explained_by:
            yield other
            yield from explains(other)

    assert [rule.name for rule in RULES if rule.name in explains(rule.name)] == []


def test_every_check_of_health_has_an_alert_that_fires_when_it_fails() -> None:
    assert [name for name in checks.BY_NAME if of_check(name, "fail") is None] == []
    assert [
        rule.name
        for rule in RULES
        if isinstance(rule.probe, Check) and rule.probe.name not in checks.BY_NAME
    ] == []


def test_an_alert_is_not_another_ones_worse_case() -> None:
    """A slow broker takes messages, a dead letter keeps no other waiting, and nobody attacks where
    a certificate ends in two days.
    """
    assert of_check("broker", "warn") is None
    assert of_check("queues", "warn") is None
    worse = of_check("certificates", "fail")
    assert worse is not None
    assert worse.name == "CertificateEnding"


def test_every_kind_of_limit_has_an_alert_for_its_breach_and_its_warning() -> None:
    for kind in LimitKind:
        assert of_event(kind.value, "breach") is not None
        assert of_event(kind.value, "warn") is not None
        assert of_event(kind.value, "info") is None
    named = of_event("daily_loss", "breach")
    assert named is not None
    assert named.name == "TradingLossesExceedLimit"


# --- the runbook ------------------------------------------------------------------------------


def test_every_alert_and_every_command_has_a_page_and_no_page_is_about_nothing() -> None:
    there = set(pages.names())
    wanted = {*BY_NAME, *COMMANDS}
    assert wanted - there == set(), "alerts or commands without a page"
    assert there - wanted - set(run_roles()) == set(), "pages about nothing"


def run_roles() -> list[str]:
    context = click.Context(botswarm)
    group = botswarm.get_command(context, "run")
    assert isinstance(group, click.Group)
    return group.list_commands(context)


@pytest.mark.parametrize("name", pages.names())
def test_a_page_says_symptom_cause_what_to_run_and_what_to_expect(name: str) -> None:
    text = pages.page(name)
    assert text.startswith(f"# {name}\n")
    heads = re.findall(r"^\*\*(\w+)\.?\*\*", text, re.MULTILINE)
    assert heads == ["Symptom", "Cause", "Run", "Expect"]


@pytest.mark.parametrize("name", pages.names())
def test_every_command_on_a_page_exists_with_its_options(name: str) -> None:
    text = pages.page(name)
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    found = [line for block in blocks for line in block.splitlines()]
    found += [" ".join(each.split()) for each in re.findall(r"`(botswarm [^`]+)`", text)]
    assert found
    for line in found:
        if line.startswith("botswarm "):
            assert _is_understood(shlex.split(line)[1:]), line


@pytest.mark.parametrize("name", pages.names())
def test_every_command_to_run_has_the_arguments_it_needs_and_no_others(name: str) -> None:
    for block in re.findall(r"```sh\n(.*?)```", pages.page(name), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("botswarm ") and "--help" not in line:
                assert _takes_its_arguments(shlex.split(line)[1:]), line


def _takes_its_arguments(words: list[str]) -> bool:
    command, words = _found(words)
    try:
        assert command is not None
        command.make_context(command.name, words)
    except click.UsageError:
        return False
    return True


def _found(words: list[str]) -> tuple[click.Command | None, list[str]]:
    """The command that these words name, and those that are left for it."""
    command: click.Command = botswarm
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        following = command.get_command(context, words[0])
        if following is None:
            return None, words
        command, words = following, words[1:]
    return command, words


def _is_understood(words: list[str]) -> bool:
    command, words = _found(words)
    if command is None:
        return False
    options = {name for each in command.params for name in each.opts}
    return {word for word in words if word.startswith("--")} <= options | {"--help"}


def test_the_documents_folder_shows_the_same_pages() -> None:
    assert (ROOT / "docs/runbook").resolve() == pages.FOLDER


# --- dashboards -------------------------------------------------------------------------------


@pytest.mark.parametrize(("board", "panel"), PANELS, ids=lambda each: each.title)
def test_a_panel_says_what_is_seen_in_it(board: object, panel: Panel) -> None:
    assert panel.description
    assert panel.lines


def test_dashboards_are_written_as_grafana_reads_them() -> None:
    for board in boards.BOARDS:
        page = json.loads(FILES[Path("grafana/dashboards") / f"{board.uid}.json"])
        numbers = [panel["id"] for panel in page["panels"]]
        assert len(set(numbers)) == len(board.panels)
        places = [panel["gridPos"] for panel in page["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        for panel in page["panels"]:
            assert [target["refId"] for target in panel["targets"]]


def test_only_the_chosen_environment_is_shown() -> None:
    shown = Line('sum(rate(botswarm_fills_total{side="buy"}[5m])) / max(botswarm_bots)').shown
    assert shown == (
        'sum(rate(botswarm_fills_total{environment=~"$environment",side="buy"}[5m])) / '
        'max(botswarm_bots{environment=~"$environment"})'
    )

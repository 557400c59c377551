"""The table of alerts as files for Prometheus, for promtool and for Alertmanager."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from botswarm.alerts.rule import Rule, Trial
from botswarm.alerts.rules import EXPLAINED_BY, RULES
from botswarm.domain.alert import Severity

MADE = "# Written by `botswarm alert files`; a test fails when it is stale.\n"
ABOUT = ("exchange", "venue", "account", "queue", "task", "instance", "channel", "kind", "server")
"""Labels by which two alerts may speak of the same thing."""
GROUP_WAIT_S = 10
GROUP_EVERY_S = 30


GROUPS = tuple(dict.fromkeys(rule.group for rule in RULES))


def files(environment: str = "production") -> Mapping[Path, str]:
    """By their place below docker/; the environment is that of the compose file's swarm."""
    by_name = "alertmanager:9093"
    # A trial runs all rules of its file, so each group has a file: it is ten times as fast.
    return {
        **{Path(f"prometheus/rules/{group}.yml"): alerts(group) for group in GROUPS},
        **{Path(f"prometheus/trials/{group}.yml"): trials(group) for group in GROUPS},
        Path("prometheus/prometheus.yml"): scraping(list(_static(environment)), by_name),
        Path("prometheus/one-machine.yml"): scraping(list(_discovered()), "127.0.0.1:9093"),
        Path("prometheus/kubernetes.yml"): scraping(list(_pods()), by_name),
        Path("alertmanager/alertmanager.yml"): alertmanager(),
    }


# --- whom Prometheus asks ---------------------------------------------------------------------

EVERY_S = 15
ROLES: Mapping[str, str] = {
    "feed": "feed",
    "strategy": "worker",
    "orders": "worker",
    "ops": "worker",
    "archive": "archive",
    "beat": "beat",
    "flower": "flower",
}
"""Containers of the compose file, and what kind of process each is."""
HEALTH_PORT = 8080


def scraping(targets: Sequence[str], alertmanager_at: str) -> str:
    lines = [
        MADE + "global:",
        f"  scrape_interval: {EVERY_S}s",
        f"  evaluation_interval: {EVERY_S}s",
        "rule_files:",
        "  - rules/*.yml",
        "alerting:",
        "  alertmanagers:",
        "    - static_configs:",
        f"        - targets: ['{alertmanager_at}']",
        "scrape_configs:",
        "  - job_name: botswarm",
        "    # What a process says of itself is stronger than what we say of it.",
        "    honor_labels: true",
        *targets,
    ]
    return "\n".join(lines) + "\n"


def _static(environment: str) -> Iterator[str]:
    """A container of the compose file has one process, and a name in its network."""
    yield "    static_configs:"
    for name, role in ROLES.items():
        labels = {"process": name, "instance_type": role, "environment": environment}
        yield f"      - targets: ['{name}:{HEALTH_PORT}']"
        yield f"        labels: {json.dumps(labels)}"


def _discovered() -> Iterator[str]:
    """On one machine any process knows all the others, and their ports."""
    yield "    http_sd_configs:"
    yield f"      - url: http://127.0.0.1:{HEALTH_PORT}/targets"
    yield "        refresh_interval: 30s"


LABELS_OF_POD: Mapping[str, str] = {
    "process": "pod_label_app_kubernetes_io_component",
    "instance_type": "pod_label_instance_type",
    "environment": "pod_label_environment",
    "instance": "pod_name",
}


def _pods() -> Iterator[str]:
    """In a cluster each pod says by its labels what it is, and which environment's."""
    yield "    kubernetes_sd_configs:"
    yield "      - role: pod"
    yield "    relabel_configs:"
    names = ("pod_label_app_kubernetes_io_name", "pod_container_port_name")
    yield f"      - source_labels: [{', '.join(f'__meta_kubernetes_{name}' for name in names)}]"
    yield "        regex: botswarm;metrics"
    yield "        action: keep"
    for label, source in LABELS_OF_POD.items():
        yield f"      - source_labels: [__meta_kubernetes_{source}]"
        yield f"        target_label: {label}"


def of(group: str) -> list[Rule]:
    return [rule for rule in RULES if rule.group == group]


def alerts(group: str) -> str:
    lines = [MADE + "groups:", f"  - name: botswarm-{group}", f"    interval: {GROUP_EVERY_S}s"]
    lines.append("    rules:")
    for rule in of(group):
        lines += _alert(rule)
    return "\n".join(lines) + "\n"


def _alert(rule: Rule) -> Iterator[str]:
    yield f"      - alert: {rule.name}"
    yield f"        expr: {_text(rule.expression)}"
    yield f"        for: {rule.for_s}s"
    yield "        labels:"
    yield f"          severity: {rule.severity.value}"
    yield "        annotations:"
    yield f"          summary: {_text(rule.says)}"
    yield f"          runbook: {_text(f'botswarm runbook {rule.page}')}"
    yield f"          runbook_url: {_text(f'docs/runbook/{rule.page}.md')}"


# --- promtool ---------------------------------------------------------------------------------


def trials(group: str) -> str:
    """Each rule is shown what makes it fire, and what is just on the good side."""
    lines = [MADE + "rule_files:", f"  - ../rules/{group}.yml", "evaluation_interval: 1m", "tests:"]
    for rule in of(group):
        for about, trial in {"": rule.trial, **rule.more_trials}.items():
            lines += _trial(rule, trial, about, fires=True)
            if trial.quiet:
                lines += _trial(rule, trial, about, fires=False)
    return "\n".join(lines) + "\n"


def _trial(rule: Rule, trial: Trial, about: str, *, fires: bool) -> Iterator[str]:
    what = "fires" if fires else "does not fire"
    yield f"  - name: {rule.name} {what} {about}".rstrip()
    yield "    interval: 1m"
    yield "    input_series:"
    for name, values in (trial.fires if fires else trial.quiet).items():
        yield f"      - series: {_text(name)}"
        yield f"        values: {_text(values)}"
    # Prometheus' own record of what fires: the whole text of a summary is not held to here.
    yield "    promql_expr_test:"
    firing = {"alertname": rule.name, "alertstate": "firing"}
    yield f"      - expr: {_text(_selector(firing))}"
    yield f"        eval_time: {trial.at}m"
    if not fires:
        yield "        exp_samples: []"
        return
    yield "        exp_samples:"
    labels = {**firing, "severity": rule.severity.value, **trial.labels}
    yield f"          - labels: {_text(_selector(labels))}"
    yield "            value: 1"


def _selector(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"ALERTS{{{pairs}}}"


# --- Alertmanager -----------------------------------------------------------------------------


def alertmanager() -> str:
    """One message for what fires together, the next five minutes later at the soonest.

    Where its notices go is said in the file it is started with: an address is a secret.
    """
    lines = [
        MADE + "route:",
        "  receiver: botswarm",
        "  group_by: [alertname, severity]",
        f"  group_wait: {GROUP_WAIT_S}s",
        f"  group_interval: {GROUP_EVERY_S}s",
        "  repeat_interval: 4h",
        "  routes:",
    ]
    for severity, (wait, interval, repeat) in PACE.items():
        lines += [
            f'    - matchers: [severity="{severity.value}"]',
            f"      group_wait: {wait}",
            f"      group_interval: {interval}",
            f"      repeat_interval: {repeat}",
            f"      receiver: {severity.value}",
        ]
    lines.append("inhibit_rules:")
    for name, sources in EXPLAINED_BY.items():
        lines += _inhibited(name, sorted(sources))
    lines += ["receivers:", "  - name: botswarm"]
    for severity in PACE:
        lines += _receiver(severity)
    return "\n".join(lines) + "\n"


PACE: Mapping[Severity, Sequence[str]] = {
    Severity.CRITICAL: ("5s", "30s", "1h"),
    Severity.HIGH: ("10s", "5m", "4h"),
    Severity.WARNING: ("1m", "15m", "12h"),
    Severity.INFO: ("5m", "1h", "24h"),
}
"""By severity: how long to wait for others, for more of the same, and before telling it again."""


def _inhibited(name: str, sources: Sequence[str]) -> Iterator[str]:
    yield f'  - target_matchers: [alertname="{name}"]'
    yield f'    source_matchers: [alertname=~"{"|".join(sources)}"]'
    equal = _common(name, sources)
    if equal:
        yield f"    equal: [{', '.join(equal)}]"


def _common(name: str, sources: Sequence[str]) -> list[str]:
    """Labels that all of them carry: only what speaks of the same thing explains."""
    rules = [rule for rule in RULES if rule.name in (name, *sources)]
    return [label for label in ABOUT if all(label in rule.trial.labels for rule in rules)]


def _receiver(severity: Severity) -> Iterator[str]:
    """Keys stand in files of their own, as secrets of a container do."""
    yield f"  - name: {severity.value}"
    yield "    slack_configs:"
    yield "      - api_url_file: /run/secrets/alerts_slack_url"
    yield "        send_resolved: true"
    yield "        title: '[{{ .CommonLabels.severity }}] {{ .CommonLabels.alertname }}'"
    yield "        text: '{{ range .Alerts }}{{ .Annotations.summary }}; {{ .Annotations.runbook }}"
    yield ""
    yield "          {{ end }}'"
    if severity in (Severity.CRITICAL, Severity.HIGH):
        yield "    pagerduty_configs:"
        yield "      - routing_key_file: /run/secrets/alerts_pagerduty_key"
        yield "        severity: " + ("critical" if severity is Severity.CRITICAL else "error")
        yield "        send_resolved: true"


def _text(text: str) -> str:
    """JSON's strings are YAML's, too."""
    return json.dumps(text, ensure_ascii=False)

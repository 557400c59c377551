"""A Prometheus for tests: it scrapes a swarm as one in production would, only more often."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from botswarm.programs import find_program
from botswarm.testing.servers import HOST, Server

Sample = dict[str, Any]


class PrometheusServer(Server):
    """Debian's, with everything it writes inside ``data``."""

    name = "prometheus"

    def __init__(self, *, targets_url: str, rules: Sequence[Path] = (), every_s: int = 1) -> None:
        """``targets_url`` is the page of any process that names all of its machine."""
        super().__init__()
        self._targets_url = targets_url
        self._rules = rules
        self._every_s = every_s

    def ask(self, expression: str) -> list[Sample]:
        """What an expression answers now."""
        words = urllib.parse.urlencode({"query": expression})
        return list(self._get(f"query?{words}")["result"])

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {
            each["labels"]["alertname"]
            for each in self._get("alerts")["alerts"]
            if each["state"] == "firing"
        }

    def wrong_rules(self) -> list[str]:
        """Those that it could not reckon, and why."""
        return [
            f"{rule['name']}: {rule['lastError']}"
            for group in self._get("rules")["groups"]
            for rule in group["rules"]
            if rule["health"] == "err"
        ]

    def _get(self, path: str) -> dict[str, Any]:
        url = f"http://{HOST}:{self.port}/api/v1/{path}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return dict(json.load(answer)["data"])
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from error

    def _prepare(self) -> None:
        every = f"{self._every_s}s"
        lines = [
            "global:",
            f"  scrape_interval: {every}",
            f"  evaluation_interval: {every}",
            "rule_files:",
            *(f"  - {rule}" for rule in self._rules),
            "scrape_configs:",
            "  - job_name: botswarm",
            "    honor_labels: true",
            "    http_sd_configs:",
            f"      - url: {self._targets_url}",
            "        refresh_interval: 1s",
        ]
        (self.data / "prometheus.yml").write_text("\n".join(lines) + "\n")

    def _launch(self) -> None:
        self._run(
            [
                find_program("prometheus", package="prometheus"),
                f"--config.file={self.data / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.data / 'tsdb'}",
                f"--web.listen-address={HOST}:{self.port}",
                "--log.level=warn",
            ]
        )

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

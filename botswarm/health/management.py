"""Ask a broker's management API: RabbitMQ's, or the embedded broker's, which answers alike."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote, unquote, urlsplit

from botswarm.config import Secret
from botswarm.errors import Unreachable

LIMIT_S = 5.0

Rows = list[Mapping[str, object]]


class Management:
    unreachable: ClassVar[type[Unreachable]] = Unreachable

    def __init__(self, url: Secret) -> None:
        parts = urlsplit(url.reveal())
        self._shown = url.masked
        self._path = parts.path
        self._host = parts.hostname or ""
        self._port = parts.port
        self._encrypted = parts.scheme == "https"
        login = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
        self._headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}

    def queues(self, vhost: str) -> Rows:
        return _rows(self._get(f"queues/{quote(vhost, safe='')}"))

    def overview(self) -> Mapping[str, object]:
        answer = self._get("overview")
        return answer if isinstance(answer, Mapping) else {}

    def connections(self) -> Rows:
        return _rows(self._get("connections"))

    def nodes(self) -> Rows:
        return _rows(self._get("nodes"))

    def facts(self) -> Mapping[str, float]:
        """``connections``, ``memory_bytes`` and ``blocked``, as far as this broker says them."""
        told = self.overview()
        found: dict[str, float] = {}
        totals, ours = told.get("object_totals"), told.get("botswarm")
        if isinstance(totals, Mapping):
            found["connections"] = float(totals.get("connections", 0))
        if isinstance(ours, Mapping):
            found["memory_bytes"] = float(ours.get("memory_bytes", 0))
            found["blocked"] = float(bool(ours.get("blocked_for")))
            return found
        nodes = self.nodes()
        found["memory_bytes"] = float(sum(number(node.get("mem_used")) for node in nodes))
        alarms = ("mem_alarm", "disk_free_alarm")
        found["blocked"] = float(any(node.get(alarm) for node in nodes for alarm in alarms))
        return found

    def _get(self, what: str) -> object:
        import http.client

        try:
            status, body = self._exchange(what)
        except (OSError, http.client.HTTPException) as error:
            raise self.unreachable(
                f"cannot reach the management API at {self._shown} ({reason(error)})",
                cure="check that its plugin is enabled and the address is right",
            ) from error
        if status == 200:
            return self._parsed(body)
        if status in (401, 403):
            raise self.unreachable(
                f"the management API at {self._shown} refuses this user (status {status})",
                cure="check the password, and that the user has the tag monitoring or management",
            )
        raise self.unreachable(
            f"the management API at {self._shown} answers {what} with status {status}",
            cure="check that the address is a management API and the vhost exists",
        )

    def _parsed(self, body: bytes) -> object:
        try:
            return json.loads(body)
        except ValueError as error:
            raise self.unreachable(
                f"what answers at {self._shown} is not a management API",
                cure="check BOTSWARM_BROKER_MANAGEMENT_URL; RabbitMQ's is usually port 15672",
            ) from error

    def _exchange(self, what: str) -> tuple[int, bytes]:
        import http.client
        import ssl

        connection: http.client.HTTPConnection
        if self._encrypted:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=LIMIT_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=LIMIT_S)
        try:
            connection.request("GET", self._path + what, headers=self._headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def reason(error: BaseException) -> str:
    """What went wrong, in the few words a person needs."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().partition("\n")[0].lower()


def _rows(answer: object) -> Rows:
    if not isinstance(answer, list):
        return []
    return [row for row in answer if isinstance(row, Mapping)]


def number(value: object) -> int:
    return value if isinstance(value, int) else 0

"""Asks processes how they are, all at once and cheaply: one plain request to each port."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botswarm.health import card as cards
from botswarm.health.card import Found
from botswarm.health.check import Check, Status, read

LIMIT_S = 2.0
BYTES_MAX = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one process answered; ``code`` is 0 where it did not."""

    process: Found
    code: int
    body: bytes
    trouble: str = ""

    @property
    def page(self) -> Mapping[str, Any]:
        try:
            page = json.loads(self.body) if self.code else {}
        except ValueError:
            return {}
        return page if isinstance(page, dict) else {}

    @property
    def checks(self) -> tuple[Check, ...]:
        """Of the page ``/health/detailed``; those that cannot be read are left out."""
        made = []
        rows = self.page.get("checks")
        for row in rows if isinstance(rows, list) else ():
            with contextlib.suppress(KeyError, ValueError, TypeError):
                made.append(read(row))
        return tuple(made)

    @property
    def troubles(self) -> Mapping[str, str]:
        """What is wrong, by the name of the check; where it says nothing, without a name."""
        if self.trouble:
            return {"": f"{self.trouble} (pid {self.process.card.pid})"}
        listed = self.page.get("trouble") or self.page.get("missing") or ()
        return {str(each.get("name")): str(each.get("words")) for each in listed}

    @property
    def words(self) -> str:
        """The same in one line, or that all is well."""
        words = [f"{name}: {said}" if name else said for name, said in self.troubles.items()]
        return "; ".join(words) or str(self.page.get("status", self.code))

    @property
    def status(self) -> Status:
        """Of the pages of health; whoever does not answer fails."""
        if self.code == 200:
            return "warn" if self.page.get("status") == "degraded" else "ok"
        return "fail"


@dataclass(slots=True, eq=False)
class _Question:
    process: Found
    socket: socket.socket
    request: bytes
    answer: bytearray = field(default_factory=bytearray)


def processes(state_dir: Path, path: str, limit_s: float = LIMIT_S) -> tuple[Said, ...]:
    """What every process of this machine answers; those that are gone are among them."""
    return ask(cards.found(state_dir), path, limit_s)


def ask(
    found: Sequence[Found], path: str, limit_s: float = LIMIT_S, accept: str = "*/*"
) -> tuple[Said, ...]:
    said: dict[str, Said] = {}
    deadline = time.monotonic() + limit_s
    with selectors.DefaultSelector() as selector:
        for each in found:
            if not each.is_alive:
                said[each.card.name] = _silent(each, "it ended, and nobody ended it")
                continue
            question = _begun(each, path, accept)
            selector.register(question.socket, selectors.EVENT_WRITE, question)
        try:
            _collect(selector, deadline, said)
        finally:
            for key in list(selector.get_map().values()):
                key.data.socket.close()
                said[key.data.process.card.name] = _silent(
                    key.data.process, f"no answer within {limit_s:g} s"
                )
    return tuple(said[each.card.name] for each in found)


def _begun(each: Found, path: str, accept: str) -> _Question:
    family = socket.AF_INET6 if ":" in each.card.host else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.connect_ex((each.card.host, each.card.port))
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {each.card.address}",
        f"Accept: {accept}",
        "Connection: close",
    ]
    return _Question(each, connection, "\r\n".join([*lines, "", ""]).encode())


def _collect(selector: selectors.BaseSelector, deadline: float, said: dict[str, Said]) -> None:
    while selector.get_map() and (left_s := deadline - time.monotonic()) > 0:
        for key, events in selector.select(left_s):
            question: _Question = key.data
            try:
                done = _step(selector, question, events)
            except OSError as error:
                done = _silent(question.process, (error.strerror or str(error)).lower())
            if done is not None:
                selector.unregister(question.socket)
                question.socket.close()
                said[question.process.card.name] = done


def _step(selector: selectors.BaseSelector, question: _Question, events: int) -> Said | None:
    if events & selectors.EVENT_WRITE:
        question.socket.sendall(question.request)
        selector.modify(question.socket, selectors.EVENT_READ, question)
        return None
    heard = question.socket.recv(1 << 16)
    question.answer += heard
    if heard and len(question.answer) <= BYTES_MAX:
        return None
    head, _, body = bytes(question.answer).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 3 or not words[1].isdigit():
        return _silent(question.process, "what answers there is not ours")
    return Said(process=question.process, code=int(words[1]), body=body)


def _silent(process: Found, trouble: str) -> Said:
    return Said(process=process, code=0, body=b"", trouble=trouble)

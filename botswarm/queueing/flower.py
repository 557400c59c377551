"""Flower on our app: nobody sees anything without the password, and what it saw outlives it."""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flower.app import Flower
from flower.options import options
from flower.urls import settings as tornado_settings
from flower.utils import prepend_url
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import PeriodicCallback
from tornado.web import RequestHandler

from botswarm import cards
from botswarm.config import Secret, Settings
from botswarm.errors import Unreachable
from botswarm.queueing.app import App

FILE = "flower.json"
FOLDER = "flower"
"""In the state folder: the tasks and workers it remembers."""
USER = "botswarm"
PORT = 5555
SAVED_EVERY_S = 30
TURN_MS = 1000
GONE_WORKERS_FORGOTTEN_AFTER_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowerRecord:
    """Where it is to be found; written 0600, since it may hold the password that was made up."""

    host: str
    port: int
    prefix: str
    user: str
    password: str
    pid: int
    started_at: str

    def __repr__(self) -> str:
        return f"FlowerRecord({self.url}, pid {self.pid})"

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + (f"{self.prefix}/" if self.prefix else "")


def read(state_dir: Path) -> FlowerRecord | None:
    return cards.read(state_dir / FILE, FlowerRecord)


class GuardedFlower(Flower):  # type: ignore[misc]
    """Flower lets its metrics, health check and static files be read by everybody; this does not.

    Who has no password is turned away before any page is looked for, so what a later Flower may
    add is closed too.
    """

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        if self._knows(request.headers.get("Authorization", "")):
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, Stranger)

    def _knows(self, said: str) -> bool:
        kind, _, login = said.partition(" ")
        try:
            given = base64.b64decode(login, validate=True)
        except ValueError:
            return False
        logins = self.options.basic_auth
        return kind.lower() == "basic" and any(
            hmac.compare_digest(given, each.encode()) for each in logins
        )


class Stranger(RequestHandler):
    """Asks for the password, whatever was asked for."""

    def prepare(self) -> None:
        self.set_status(401)
        self.set_header("WWW-Authenticate", 'Basic realm="botswarm", charset="UTF-8"')
        self.finish("the user is botswarm; the password is in flower.json in the state folder\n")

    def check_xsrf_cookie(self) -> None:
        """Nothing is done for a stranger, so nobody can be made to have it done."""


def serve(
    app: App,
    settings: Settings,
    on_ready: Callable[[FlowerRecord], None],
    turned: Callable[[], None] = lambda: None,
) -> None:
    """Until SIGTERM or SIGINT; ``turned`` is called every second by the loop that serves."""
    if settings.flower_read_only:
        # It calls no task by itself then, and needs none of what they import.
        app.conf.update(imports=(), include=())
    password = settings.flower_password or Secret(_kept_password(settings.state_dir))
    _set_options(settings, password)
    page = GuardedFlower(capp=app, options=options, **_tornado_settings(settings))
    record = FlowerRecord(
        host=settings.flower_host,
        port=_listen(page, settings),
        prefix=settings.flower_url_prefix or "",
        user=USER,
        password="" if settings.flower_password else password.reveal(),
        pid=os.getpid(),
        started_at=datetime.now(UTC).isoformat(),
    )
    cards.write(settings.state_dir / FILE, record)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: page.io_loop.add_callback_from_signal(page.stop))
    on_ready(record)
    PeriodicCallback(turned, TURN_MS).start()
    page.start()


def _kept_password(state_dir: Path) -> str:
    """The same over restarts: a browser that has it open goes on."""
    known = read(state_dir)
    return known.password if known and known.password else secrets.token_urlsafe(24)


def _set_options(settings: Settings, password: Secret) -> None:
    folder = settings.state_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    management = settings.broker_management_url
    values: dict[str, Any] = {
        "address": settings.flower_host,
        "basic_auth": [f"{USER}:{password.reveal()}"],
        "broker_api": management.reveal() if management else None,
        "db": str(folder / "state"),
        "max_tasks": settings.flower_tasks_max,
        "persistent": True,
        "purge_offline_workers": GONE_WORKERS_FORGOTTEN_AFTER_S,
        "read_only": settings.flower_read_only,
        "state_save_interval": SAVED_EVERY_S * 1000,
        "url_prefix": settings.flower_url_prefix,
    }
    for name, value in values.items():
        setattr(options, name, value)


def _tornado_settings(settings: Settings) -> dict[str, Any]:
    found = dict(tornado_settings, debug=False)
    if settings.flower_url_prefix:
        for name in ("login_url", "static_url_prefix"):
            found[name] = prepend_url(found[name], settings.flower_url_prefix)
    return found


def _listen(page: GuardedFlower, settings: Settings) -> int:
    """On the port that was named, or on the usual one, or on a free one where that is taken."""
    named = settings.flower_port
    for port in (named,) if named is not None else (PORT, 0):
        options.port = port
        try:
            return int(page.start_http_server())
        except (OSError, socket.gaierror) as error:
            trouble = error
    raise Unreachable(
        f"Flower cannot listen on {settings.flower_host}, port {named or PORT}: "
        f"{trouble.strerror or trouble}",
        cure="name another with BOTSWARM_FLOWER_HOST and BOTSWARM_FLOWER_PORT",
    )

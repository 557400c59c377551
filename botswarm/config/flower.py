"""The settings of Flower, the page that shows queues, workers and tasks as they run."""

from __future__ import annotations

import re

from botswarm.config.kinds import Kind, Setting, switch, whole_number
from botswarm.config.secret import Secret
from botswarm.errors import Problem

PASSWORD_MIN = 12


def _host(text: str) -> object:
    if re.fullmatch(r"[A-Za-z0-9_.:-]{1,253}", text):
        return text
    return Problem(f"is {text!r}, which is no address", "write 127.0.0.1, or 0.0.0.0 for all")


def _password(text: str) -> object:
    if len(text) >= PASSWORD_MIN and re.fullmatch(r"[!-~]{1,256}", text):
        return Secret(text)
    return Problem(
        f"is shorter than {PASSWORD_MIN} characters, or holds a blank or a strange one",
        "take a long random one, such as openssl rand -hex 16 prints",
    )


def _prefix(text: str) -> object:
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        return text
    return Problem(f"is {text!r}, which is no plain word", "write flower for …/flower/")


FLOWER: tuple[Setting, ...] = (
    Setting(
        name="flower_host",
        kind=Kind(read=_host, schema={"type": "string"}, words="an address or host name"),
        help="Where Flower listens. Beyond this machine only behind a proxy that encrypts.",
        default="127.0.0.1",
    ),
    Setting(
        name="flower_port",
        kind=whole_number(1, 65_535, ""),
        help="The port Flower listens on.",
        default_words="5555, or a free one where that is taken",
    ),
    Setting(
        name="flower_password",
        kind=Kind(read=_password, schema={"type": "string"}, words="a password"),
        help="Of the user `botswarm`, without whom Flower shows nothing.",
        default_words="a random one, kept in flower.json in the state folder",
        secret=True,
    ),
    Setting(
        name="flower_read_only",
        kind=switch(),
        help="Whether Flower only shows; off, who knows the password may also stop workers and "
        "revoke tasks.",
        default=True,
    ),
    Setting(
        name="flower_tasks_max",
        kind=whole_number(100, 1_000_000, ""),
        help="How many tasks Flower remembers; the oldest are forgotten.",
        default=10_000,
    ),
    Setting(
        name="flower_url_prefix",
        kind=Kind(read=_prefix, schema={"type": "string"}, words="a plain word"),
        help="The first part of every path, behind a proxy that serves other pages too.",
    ),
)

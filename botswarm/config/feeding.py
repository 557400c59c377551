"""The settings of the feed's connections; docs/feed.md says where each of them shows."""

from __future__ import annotations

import re

from botswarm.config.kinds import Kind, Setting, share, switch, whole_number
from botswarm.errors import Problem

VENUE = r"[a-z][a-z0-9-]{0,40}"


def _venues(text: str) -> object:
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if not re.fullmatch(VENUE, name):
            return Problem(f"holds {name!r}, which is no venue", "write binance,kraken")
    return tuple(dict.fromkeys(names))


def _seconds(lowest: int, highest: int) -> Kind:
    return whole_number(lowest, highest, "seconds")


def _feed(name: str, kind: Kind, default: object, help: str, **profiles: object) -> Setting:
    """``default`` is development's; the other profiles say where theirs differ."""
    return Setting(
        name=f"feed_{name}", kind=kind, help=help, default=default, profile_defaults=profiles
    )


FEED: tuple[Setting, ...] = (
    Setting(
        name="feed_venues",
        kind=Kind(read=_venues, schema={"type": "string"}, words="venues, such as binance,kraken"),
        help="The venues whose streams the feed reads; one that is not named is switched off.",
        default=(),
        default_words="the venue that orders go to",
    ),
    _feed(
        "connect_timeout_s",
        _seconds(1, 300),
        30,
        "A connection that is not open after so long is given up; the probe of a venue that is "
        "down has four seconds at most.",
    ),
    _feed(
        "connections_max",
        whole_number(1, 200, "connections"),
        3,
        "How many connections to one venue the feed holds.",
        staging=5,
        production=10,
    ),
    _feed(
        "streams_per_connection_max",
        whole_number(1, 1024, "streams"),
        200,
        "How many streams one connection carries, where the venue does not allow fewer.",
    ),
    _feed(
        "connections_initial",
        whole_number(1, 200, "connections"),
        3,
        "Over how many connections the streams are spread before any is filled.",
    ),
    _feed(
        "check_every_s",
        _seconds(1, 3600),
        10,
        "How often the pool looks for connections to replace, to merge and to close.",
        staging=15,
        production=30,
    ),
    _feed(
        "idle_close_s",
        _seconds(1, 86_400),
        60,
        "A connection without streams is closed after so long.",
        staging=180,
        production=300,
    ),
    _feed(
        "connection_age_max_s",
        _seconds(10, 86_400),
        3600,
        "A connection this old is replaced by a new one, which takes over before it ends.",
    ),
    _feed(
        "ping_every_s",
        _seconds(1, 3600),
        30,
        "How often a venue is asked whether it is there; sooner where it is strangely silent.",
    ),
    _feed("pong_timeout_s", _seconds(1, 300), 5, "A ping without an answer by then is missed."),
    _feed(
        "pings_missed_max",
        whole_number(1, 100, "pings"),
        3,
        "So many missed pings in a row end a connection.",
    ),
    _feed(
        "health_every_s",
        _seconds(1, 3600),
        10,
        "How often each connection's health is reckoned for metrics and the log.",
    ),
    _feed(
        "health_good",
        share(),
        0.7,
        "A connection below this score gets no further streams.",
    ),
    _feed(
        "health_unhealthy",
        share(),
        0.5,
        "A connection below this score is replaced by another one.",
    ),
    _feed(
        "health_alert",
        share(),
        0.1,
        "A venue below this score is said in the log as a warning.",
        staging=0.3,
        production=0.5,
    ),
    _feed(
        "health_critical",
        share(),
        0.1,
        "A venue below this score is said in the log as an error.",
        staging=0.3,
        production=0.3,
    ),
    _feed(
        "reconnect",
        switch(),
        True,
        "Whether a connection that ended is made again; off is for looking at one by hand.",
    ),
    _feed(
        "reconnect_tries_max",
        whole_number(1, 1000, "attempts"),
        5,
        "After so many failures in a row the breaker of the venue opens: it is said loudly, and "
        "one connection goes on trying for all.",
        staging=10,
        production=15,
    ),
    _feed(
        "reconnect_base_ms",
        whole_number(10, 60_000, "milliseconds"),
        1000,
        "The pause after the first failed attempt.",
    ),
    _feed(
        "reconnect_max_s",
        _seconds(1, 3600),
        10,
        "No pause between two attempts is longer; one connection of a venue tries at least every "
        "five seconds all the same.",
        staging=30,
        production=60,
    ),
    _feed(
        "reconnect_multiplier",
        whole_number(1, 10, ""),
        2,
        "How many times longer each further pause is.",
    ),
    _feed(
        "reconnect_jitter",
        share(),
        0.25,
        "By which part a pause is made longer or shorter at random, so that feeds do not come "
        "back all at once.",
    ),
    _feed(
        "reconnect_reset_after",
        whole_number(1, 100, "connections"),
        3,
        "So many connections that really brought something, and stayed, end the counting of "
        "failures.",
    ),
    _feed(
        "frame_max_bytes",
        whole_number(1024, 67_108_864, "bytes"),
        1_048_576,
        "A longer frame, or message of several, ends its connection before any room is made for "
        "it.",
    ),
    _feed(
        "certificate_days_min",
        whole_number(0, 365, "days"),
        14,
        "A venue's certificate that ends sooner than this is warned of.",
    ),
    _feed(
        "malformed_share_max",
        share(),
        0.05,
        "More unreadable frames than this part of all are parsing_error_rate_high.",
    ),
    _feed(
        "memory_max_mb",
        whole_number(16, 1_048_576, "MB"),
        100,
        "Memory of the feed's process above this is memory_limit_exceeded; a warning comes at 80 "
        "percent of it.",
    ),
    _feed(
        "cpu_max_percent",
        whole_number(1, 10_000, "percent of one core"),
        50,
        "Processor time of the feed above this, over ten seconds, is cpu_usage_exceeded.",
    ),
    _feed(
        "cleanup_every_s",
        _seconds(1, 86_400),
        60,
        "How often the feed collects garbage and counts its sockets and threads.",
    ),
)

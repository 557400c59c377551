"""Addresses as platforms write them become the one form our libraries read."""

from __future__ import annotations

import pytest

from botswarm.config import urls
from botswarm.errors import Problem


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://u:p@h:5672/v", "amqp://u:p@h:5672/v"),
        ("amqp://h", "amqp://h"),
        ("pyamqp://u:p@h/v", "amqp://u:p@h/v"),
        ("AMQPS://u:p@h/%2F", "amqps://u:p@h/%2F"),
        ("amqp://u:p@[::1]:5672", "amqp://u:p@[::1]:5672"),
        ("amqp://u:p%40%2F@h", "amqp://u:p%40%2F@h"),
    ],
)
def test_broker_urls_are_normalised(url: str, expected: str) -> None:
    assert urls.broker_url(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p@h/d", "postgresql+psycopg2://u:p@h/d"),
        (
            "postgresql://u:p@h:5432/d?sslmode=require",
            "postgresql+psycopg2://u:p@h:5432/d?sslmode=require",
        ),
        ("postgresql+psycopg2://u:p@h/d", "postgresql+psycopg2://u:p@h/d"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("SQLite:////var/x.db", "sqlite:////var/x.db"),
    ],
)
def test_database_urls_are_normalised(url: str, expected: str) -> None:
    assert urls.database_url(url) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", "redis://h"),
        ("rediss://:p@h:6380/3", "rediss://:p@h:6380/3"),
        ("REDIS://h/", "redis://h/"),
    ],
)
def test_redis_urls_are_normalised(url: str, expected: str) -> None:
    assert urls.redis_url(url) == expected


@pytest.mark.parametrize(
    "url", ["http://u:p@h:15672", "http://u:p@h:15672/", "http://u:p@h:15672/api"]
)
def test_management_urls_end_in_api(url: str) -> None:
    assert urls.management_url(url) == "http://u:p@h:15672/api/"


@pytest.mark.parametrize(
    ("reader", "url", "part"),
    [
        ("broker_url", "localhost:5672", "is not a URL"),
        ("broker_url", "http://h", "does not start with amqp://"),
        ("broker_url", "amqp://", "names no host"),
        ("broker_url", "amqp://u:p@/v", "names no host"),
        ("broker_url", "amqp://u:p@h:", "no usable port"),
        ("broker_url", "amqp://u:p@h:0", "no usable port"),
        ("broker_url", "amqp://u:p@h:70000", "cannot be read"),
        ("broker_url", "amqp://u:p@h:port", "cannot be read"),
        ("broker_url", "amqp://u:p/w@h", "cannot be read"),
        ("broker_url", "amqp://[::1", "cannot be read"),
        ("broker_url", "amqp://u:p@w@h", "more than one @"),
        ("broker_url", "amqp://u:p#w@h", "holds a #"),
        ("broker_url", "amqp://u:100%@h", "a % that encodes nothing"),
        ("broker_url", "amqp://u:p@h/a/b", "a bare /"),
        ("broker_url", "amqp://u:p@h /v", "a blank"),
        ("broker_url", "amqp://a:5672;amqp://b:5672", "cannot be read"),
        ("database_url", "mysql://u:p@h/d", "does not start with postgres://"),
        ("database_url", "postgresql+asyncpg://u:p@h/d", "does not start with postgres://"),
        ("database_url", "postgres://u:p@h", "names no database"),
        ("database_url", "postgres://u:p@h/", "names no database"),
        ("database_url", "sqlite://", "names no SQLite file"),
        ("database_url", "sqlite:x.db", "names no SQLite file"),
        ("database_url", "sqlite:///:memory:", "names no SQLite file"),
        ("postgresql_url", "sqlite:///x.db", "does not start with postgres://"),
        ("redis_url", "redis://h/name", "database number"),
        ("redis_url", "redis://h/-1", "database number"),
        ("management_url", "amqp://h", "does not start with http://"),
        ("management_url", "http://h:15672/#/queues", "holds a #"),
        ("management_url", "http://h:15672/queues", "goes on after the port"),
    ],
)
def test_a_bad_url_is_a_problem_with_its_cure(reader: str, url: str, part: str) -> None:
    problem = getattr(urls, reader)(url)
    assert isinstance(problem, Problem), problem
    assert part in problem.cause
    assert problem.cure

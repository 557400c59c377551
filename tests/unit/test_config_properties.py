"""Whatever text a person writes, the readers give a value or a Problem, and never a secret away."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botswarm.config import Secret, load, mask_urls, urls
from botswarm.config.dotenv import parse
from botswarm.config.kinds import Setting
from botswarm.config.secret import SecretMask
from botswarm.config.table import SETTINGS
from botswarm.errors import Misconfigured, Problem

# A busy machine is no failure of the code.
unhurried = settings(deadline=None)
READERS = (urls.broker_url, urls.database_url, urls.redis_url, urls.management_url)
SCHEMES = (
    *("amqp://", "amqps://", "pyamqp://", "redis://", "rediss://", "http://", "https://"),
    *("postgres://", "postgresql://", "postgresql+psycopg2://", "sqlite:///", "sqlite://", ""),
)
# Text that is nearly a URL finds more than text that is nearly never one.
url_like = st.builds(
    str.__add__, st.sampled_from(SCHEMES), st.text(alphabet="ab1@:/?#[]%2F&= \n\\é\x00\u2100")
)
lines = st.text(alphabet="ABexport =#'\"\\$${}\n\r\t é\x00\u2028")
passwords = st.text(alphabet="Zz09@:/?#%&=+ é", min_size=4).map(lambda text: f"QQ{text}QQ")


@unhurried
@given(st.one_of(st.text(), url_like))
def test_a_url_is_read_or_reported_and_reading_it_again_changes_nothing(text: str) -> None:
    for read in READERS:
        url = read(text)
        if isinstance(url, Problem):
            assert url.cause
            assert url.cure
        else:
            assert read(url) == url
            assert mask_urls(url)


@unhurried
@given(st.sampled_from(SCHEMES), passwords, st.sampled_from(["", ":5672", ":x", ":0", ":99999"]))
def test_no_problem_of_a_url_quotes_its_password(scheme: str, password: str, port: str) -> None:
    for read in READERS:
        for host in ("host", "", "[::1"):
            for path in ("", "/0", "/a/b", "/%zz"):
                url = read(f"{scheme}user:{password}@{host}{port}{path}")
                if isinstance(url, Problem):
                    assert "QQ" not in str(url)


@unhurried
@given(passwords)
def test_an_encoded_password_arrives_unchanged_and_is_masked(password: str) -> None:
    encoded = quote(password, safe="")
    url = urls.broker_url(f"amqp://bot:{encoded}@mq.example:5672/v")
    assert isinstance(url, str)
    assert unquote(urlsplit(url).password or "") == password
    assert Secret(url).masked == "amqp://bot:***@mq.example:5672/v"
    assert "QQ" not in mask_urls(f"cannot reach {url} (refused)")
    assert "QQ" not in SecretMask([Secret(url)])(f"login {password} or {encoded} failed")


@unhurried
@given(st.one_of(st.text(), lines))
def test_an_env_file_is_read_or_reported_line_by_line(text: str) -> None:
    parsed = parse(text, ".env")
    for key, line in parsed.values.items():
        assert key.isidentifier()
        assert 1 <= line.number <= text.count("\n") + 1
    for problem in parsed.problems:
        assert problem.cause.startswith(".env:")
        assert problem.cure


@unhurried
@given(st.text())
def test_a_value_in_quotes_is_read_back_as_it_was(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    escaped = escaped.replace("\n", "\\n").replace("\r", "\\r")
    parsed = parse(f'export NAME = "{escaped}"  # comment', ".env")
    assert parsed.problems == ()
    assert parsed.values["NAME"].value == value


@unhurried
@given(st.text().filter(lambda text: not set(text) & set("'\n\r")))
def test_single_quotes_take_everything_literally(value: str) -> None:
    parsed = parse(f"NAME='{value}'", ".env")
    assert parsed.problems == ()
    assert parsed.values["NAME"].value == value


@unhurried
@given(passwords.filter(lambda text: "\n" not in text))
def test_no_problem_of_an_env_file_quotes_a_value(password: str) -> None:
    for line in (
        f"A='{password}",
        f'A="{password}',
        f'A="x"{password}',
        f"A={password}${{",
        password,
    ):
        for problem in parse(f"A=1\n{line}\n", ".env").problems:
            assert "QQ" not in str(problem)


@unhurried
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
@given(text=st.text())
def test_every_setting_is_read_or_reported(setting: Setting, text: str) -> None:
    value = setting.kind.read(text)
    if isinstance(value, Problem):
        assert value.cure


@unhurried
@given(st.dictionaries(st.sampled_from([setting.name for setting in SETTINGS]), st.text()), lines)
def test_loading_gives_settings_or_problems_and_nothing_else(
    values: dict[str, str], dotenv: str
) -> None:
    environ = {f"BOTSWARM_{name.upper()}": text for name, text in values.items()}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, ".env").write_text(dotenv, encoding="utf-8")
        with contextlib.suppress(Misconfigured):
            assert load(environ=environ, folder=Path(folder)).settings

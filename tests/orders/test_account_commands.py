"""What `botswarm account` and `botswarm secrets` do, ask of the venue, refuse, and never say."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from botswarm.cli import main
from botswarm.exchanges.board import Board
from botswarm.keys import master
from botswarm.ledger.store import Ledger
from botswarm.testing.exchange import SimulatedExchangeServer
from tests.orders.conftest import an_order

Run = Callable[..., tuple[int, Any]]
KEY, SECRET = "public-part-4711", "signing-part-4711"


@pytest.fixture
def run(
    sqlite_ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The command line in a folder of its own, with a pipe for its input."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, given: str = "", **environ: str) -> tuple[int, Any]:
        with monkeypatch.context() as context:
            for name in [name for name in os.environ if name.startswith("BOTSWARM_")]:
                context.delenv(name)
            context.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'ledger.db'}")
            for name, value in environ.items():
                context.setenv(name, value)
            context.setattr(sys, "stdin", io.StringIO(given))
            with pytest.raises(SystemExit) as ended:
                main([*words, "--json"])
        captured = capsys.readouterr()
        for said in (KEY, SECRET, "Traceback"):
            assert said not in captured.out + captured.err
        assert isinstance(ended.value.code, int)
        return ended.value.code, json.loads(captured.out)

    return call


def keys(key: str = KEY, secret: str = SECRET) -> str:
    return json.dumps({"key": key, "secret": secret})


def of(exchange: SimulatedExchangeServer) -> dict[str, str]:
    return {"BOTSWARM_BINANCE_REST_URL": exchange.card.rest_url}


def theirs(exchange: SimulatedExchangeServer) -> str:
    return keys(exchange.card.api_key, exchange.card.api_secret)


ADD = ("account", "add", "binance:main", "--kind", "testnet")


class Venue(BaseHTTPRequestHandler):
    """As much of Binance as a test of a key asks for."""

    protocol_version = "HTTP/1.1"
    rights: ClassVar[dict[str, bool]] = {}
    ahead_s = 0.0

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answers: dict[str, object] = {
            "/api/v3/time": {"serverTime": int((time.time() + self.ahead_s) * 1000)},
            "/sapi/v1/account/apiRestrictions": self.rights,
            "/api/v3/account": {"balances": []},
        }
        body = json.dumps(answers[path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def a_venue(ahead_s: float = 0.0, **rights: bool) -> Iterator[dict[str, str]]:
    usual = {"enableSpotAndMarginTrading": True, "enableWithdrawals": False, "ipRestrict": True}
    handler = type("Handler", (Venue,), {"rights": usual | rights, "ahead_s": ahead_s})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {"BOTSWARM_BINANCE_REST_URL": f"http://127.0.0.1:{server.server_port}"}
    finally:
        server.shutdown()
        server.server_close()


def test_an_account_is_added_tested_listed_and_removed(
    run: Run, exchange: SimulatedExchangeServer, sqlite_ledger: Ledger
) -> None:
    code, said = run(*ADD, given=theirs(exchange), **of(exchange))
    assert (code, said["data"]["version"]) == (0, 1)
    assert said["data"]["test"]["can_withdraw"] is False

    _, said = run("account", "list")
    assert [(each["account"], each["from"]) for each in said["data"]] == [
        ("binance:main", "ledger")
    ]
    assert said["data"][0]["test"]["objection"] is None

    code, said = run("account", "test", "binance:main", **of(exchange))
    assert (code, said["data"]["can_trade"]) == (0, True)
    assert abs(said["data"]["clock_offset_s"]) < 60

    _, said = run("account", "balance", "binance:main", **of(exchange))
    found = {row["asset"]: row for row in said["data"]}
    assert found["USDT"]["venue"] is not None
    assert found["USDT"]["ledger"] is None

    assert run("account", "remove", "binance:main")[0] == 6
    assert run("account", "remove", "binance:main", "--yes")[0] == 0
    assert run("account", "test", "binance:main", **of(exchange))[0] == 4


def test_limits_show_what_was_used_and_a_ban(
    run: Run, exchange: SimulatedExchangeServer, tmp_path: Path
) -> None:
    run(*ADD, given=theirs(exchange), **of(exchange))
    _, said = run("account", "limits")
    (server,) = said["data"]
    used = {each["name"]: each["used"] for each in server["limits"]}
    assert server["server"] == f"binance-127.0.0.1-{exchange.card.port}"
    assert used["REQUEST_WEIGHT-1M"] >= 3
    (file,) = (tmp_path / ".botswarm").glob("allowance-*")
    Board(file).ban(300, "418")
    _, said = run("account", "limits")
    assert 0 < said["data"][0]["ban_s"] <= 300
    assert run("account", "test", "binance:main", **of(exchange))[0] == 5


@pytest.mark.parametrize(
    ("rights", "code", "words"),
    [
        ({"enableWithdrawals": True}, 6, "may withdraw"),
        ({"enableSpotAndMarginTrading": False}, 6, "may not trade"),
    ],
)
def test_a_key_with_the_wrong_rights_is_not_kept(
    run: Run, sqlite_ledger: Ledger, rights: dict[str, bool], code: int, words: str
) -> None:
    with a_venue(**rights) as environ:
        found, said = run(*ADD, given=keys(), **environ)
    assert (found, words in said["error"]["cause"]) == (code, True)
    assert sqlite_ledger.exchange_keys.all() == []


def test_a_key_that_may_withdraw_by_now_fails_its_test_and_that_is_kept(
    run: Run, sqlite_ledger: Ledger
) -> None:
    with a_venue() as environ:
        assert run(*ADD, given=keys(), **environ)[0] == 0
    with a_venue(enableWithdrawals=True) as environ:
        code, said = run("account", "test", "binance:main", **environ)
    assert (code, said["data"]["can_withdraw"]) == (6, True)
    kept = sqlite_ledger.exchange_keys.get("binance", "main")
    assert "withdraw" in (kept.test or {})["objection"]


def test_clocks_that_are_too_far_apart_fail_the_test(run: Run) -> None:
    with a_venue(ahead_s=30) as environ:
        code, said = run(*ADD, given=keys(), **environ)
    assert code == 3
    assert "clock is +" in said["error"]["cause"]


def test_a_rotated_key_is_tested_before_it_takes_the_place_of_the_old_one(
    run: Run, exchange: SimulatedExchangeServer, sqlite_ledger: Ledger
) -> None:
    run(*ADD, given=theirs(exchange), **of(exchange))
    code, _ = run("account", "rotate", "binance:main", given=keys(), **of(exchange))
    assert code == 5
    assert sqlite_ledger.exchange_keys.get("binance", "main").version == 1
    code, said = run("account", "rotate", "binance:main", given=theirs(exchange), **of(exchange))
    assert (code, said["data"]["version"]) == (0, 2)
    assert run("account", "test", "binance:main", **of(exchange))[0] == 0


def test_a_key_of_an_account_with_open_orders_is_not_forgotten(
    run: Run, sqlite_ledger: Ledger
) -> None:
    run(*ADD, "--no-test", given=keys())
    order = an_order(venue="binance", account="main", symbol="BTC-USDT")
    sqlite_ledger.orders.add(order, datetime.now(UTC))
    from sqlalchemy import update

    from botswarm.ledger.models import OrderRow

    sqlite_ledger.database.write(
        lambda session: session.execute(update(OrderRow).values(is_open=True)) and None
    )
    code, said = run("account", "remove", "binance:main", "--yes")
    assert (code, "open orders" in said["error"]["cause"]) == (6, True)


@pytest.mark.parametrize(
    "given",
    ["", KEY, f"[{json.dumps(SECRET)}]", json.dumps({"key": KEY}), json.dumps({"secret": SECRET})],
)
def test_what_holds_no_key_is_refused_without_showing_it(run: Run, given: str) -> None:
    code, said = run(*ADD, "--no-test", given=given)
    assert (code, "holds no key" in said["error"]["cause"]) == (6, True)


def test_a_key_may_come_in_the_file_that_coinbase_gives_out(
    run: Run, tmp_path: Path, sqlite_ledger: Ledger
) -> None:
    file = tmp_path / "cdp.json"
    file.write_text(json.dumps({"name": KEY, "privateKey": SECRET}))
    file.chmod(0o644)
    words = ("account", "add", "coinbase:main", "--kind", "live", "--no-test")
    code, said = run(*words, "--from-file", str(file))
    assert (code, said["data"]["kind"]) == (0, "live")
    assert any("can be read by others" in warning for warning in said["warnings"])


@pytest.mark.parametrize("name", ["binance", "binance:", "binance:../x", "binance:A B"])
def test_what_is_no_account_is_said(run: Run, name: str) -> None:
    assert run("account", "add", name, "--kind", "live", "--no-test", given=keys())[0] == 2


def test_the_master_key_is_made_once_exchanged_and_found_missing(
    run: Run, sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    code, said = run("secrets", "init")
    first = said["data"]["id"]
    assert (code, run("secrets", "init")[0]) == (0, 6)
    run(*ADD, "--no-test", given=keys())
    code, said = run("secrets", "rotate")
    assert (code, said["data"]["keys"]) == (0, 1)
    assert said["data"]["id"] != first
    code, said = run("secrets", "status")
    assert (code, said["data"]["accounts"][0]["is_here"]) == (0, True)
    (tmp_path / ".botswarm" / master.FILE).unlink()
    code, said = run("secrets", "status")
    assert (code, said["data"]["accounts"][0]["is_here"]) == (5, False)


def test_a_master_key_of_the_settings_is_exchanged_by_a_file(run: Run, tmp_path: Path) -> None:
    old, new = (master.make(tmp_path / name) for name in ("old", "new"))
    environ = {"BOTSWARM_MASTER_KEY_FILE": str(tmp_path / "old")}
    run(*ADD, "--no-test", given=keys(), **environ)
    assert run("secrets", "rotate", **environ)[0] == 2
    words = ("secrets", "rotate", "--new-from-file", str(tmp_path / "new"))
    assert run(*words, **environ)[1]["data"]["id"] == new.id != old.id
    environ = {"BOTSWARM_MASTER_KEY_FILE": str(tmp_path / "new")}
    assert run("secrets", "status", **environ)[0] == 0


def test_the_name_of_accounts_on_paper_takes_no_keys(run: Run) -> None:
    code, answer = run("account", "add", "kraken:paper", "--kind", "live", given=keys())
    assert code == 6
    assert "kraken:paper trades on paper, without keys" in answer["error"]["cause"]

"""The simulated exchange as a process of its own, and the plainest client there can be of it."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from botswarm.errors import Unreachable
from botswarm.exchanges.simulated import journal, record, stream_journal
from botswarm.exchanges.simulated.signatures import sign
from botswarm.testing.servers import Server


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: Any


class SimulatedExchangeServer(Server):
    """``botswarm run exchange``."""

    name = "simulated-exchange"

    def __init__(self, data: Path | None = None, *, options: Sequence[str] = ()) -> None:
        """``options`` are further words of the command line, such as ``--scenario trend``."""
        super().__init__(data)
        self.state_dir = self.data / "state"
        self.options = list(options)

    @property
    def card(self) -> record.ExchangeRecord:
        found = record.read(self.state_dir)
        if found is None:
            raise Unreachable(f"no exchange has run in {self.state_dir}", cure="start it first")
        return found

    @property
    def journal_path(self) -> Path:
        return self.state_dir / journal.FILE

    def journal(self, *types: str) -> list[journal.Entry]:
        """What it has written down, of these types or of all."""
        entries = journal.read(self.journal_path)
        return [entry for entry in entries if not types or entry["type"] in types]

    @property
    def streams_path(self) -> Path:
        """Where it writes what its streams told, if it was started with --stream-journal."""
        return self.state_dir / stream_journal.FILE

    def streams(self, *types: str) -> list[stream_journal.Row]:
        rows = (row for _, row in stream_journal.read(self.streams_path))
        return [row for row in rows if not types or row["type"] in types]

    # --- asking ---------------------------------------------------------------------------

    def public(self, method: str, path: str, **parameters: object) -> Reply:
        query = urlencode(parameters)
        return self.send(method, f"{path}?{query}" if query else path)

    def signed(self, method: str, path: str, **parameters: object) -> Reply:
        return self.send(method, f"{path}?{self.sign(**parameters)}")

    def sign(self, **parameters: object) -> str:
        """A query string with timestamp and signature."""
        timed: dict[str, object] = {"timestamp": int(time.time() * 1000)} | parameters
        query = urlencode(timed)
        return f"{query}&signature={sign(self.card.api_secret, query)}"

    def order(self, **parameters: object) -> Reply:
        """A limit order that rests far below the market, unless told otherwise."""
        wish = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.001",
            "price": "50000",
        } | parameters
        return self.signed("POST", "/api/v3/order", **_without_none(wish))

    def market_order(self, **parameters: object) -> Reply:
        return self.order(**{"type": "MARKET", "timeInForce": None, "price": None} | parameters)

    def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: str = ""
    ) -> Reply:
        """Raises OSError or HTTPException where no whole answer comes."""
        connection = http.client.HTTPConnection(self.host, self.card.port, timeout=15)
        try:
            given = {"X-MBX-APIKEY": self.card.api_key} if headers is None else dict(headers)
            connection.request(method, path, body=body or None, headers=given)
            response = connection.getresponse()
            text = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, lowered, json.loads(text) if is_json else text)
        finally:
            connection.close()

    def arm(self, kind: str, **wish: object) -> Reply:
        """Order a mishap; see docs/simulated-exchange.md for those there are."""
        return self.misbehaviour("POST", {"kind": kind, **wish})

    def stream_counts(self) -> Any:
        """Connections, attempts and trades as the exchange counts them now."""
        headers = {"X-Botswarm-Secret": self.card.api_secret}
        return self.send("GET", "/botswarm/streams", headers=headers).body

    def misbehaviour(self, method: str, wish: object = None, *, secret: str | None = None) -> Reply:
        headers = {"X-Botswarm-Secret": self.card.api_secret if secret is None else secret}
        body = "" if wish is None else json.dumps(wish)
        return self.send(method, "/botswarm/faults", headers=headers, body=body)

    # --- running --------------------------------------------------------------------------

    def _launch(self) -> None:
        self._run(
            [
                sys.executable,
                *("-m", "botswarm", "run", "exchange"),
                *("--state-dir", self.state_dir),
                *("--port", str(self.port)),
                *self.options,
            ]
        )

    def _is_ready(self) -> bool:
        # The card of the run before may still lie there.
        found = record.read(self.state_dir)
        if found is None or found.pid != self.pid:
            return False
        try:
            return self.public("GET", "/api/v3/ping").status == 200
        except OSError:
            return False


def _without_none(wish: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in wish.items() if value is not None}

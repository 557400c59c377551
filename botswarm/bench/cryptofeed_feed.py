"""Cryptofeed with its RabbitMQ backend on the bench's frames; run by a Python that has it.

It knows wss:// addresses only; here they are spoken plainly, which saves it the encryption. What
it is to do comes by standard input, for the broker's URL carries a password.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cryptofeed import FeedHandler, connection  # type: ignore[import-not-found]
from cryptofeed.backends.rabbitmq import (  # type: ignore[import-not-found]
    TickerRabbit,
    TradeRabbit,
)
from cryptofeed.connection import (  # type: ignore[import-not-found]
    RestEndpoint,
    Routes,
    WebsocketEndpoint,
)
from cryptofeed.defines import TICKER, TRADES  # type: ignore[import-not-found]
from cryptofeed.exchanges import Binance  # type: ignore[import-not-found]

connect_as_it_is = connection.connect


def connect_plainly(address: str, **options: Any) -> Any:
    return connect_as_it_is(address.replace("wss://", "ws://"), **options)


def main() -> None:
    wish = json.loads(sys.stdin.readline())
    connection.connect = connect_plainly
    Binance.websocket_endpoints = [
        WebsocketEndpoint(wish["stream_url"].replace("ws://", "wss://")),
    ]
    Binance.rest_endpoints = [
        RestEndpoint(wish["rest_url"], routes=Routes("/api/v3/exchangeInfo")),
    ]
    broker = wish["broker_url"].removeprefix("amqp://")
    handler = FeedHandler(
        config={"log": {"filename": "cryptofeed.log", "level": "WARNING", "disabled": False}}
    )
    handler.add_feed(
        Binance(
            symbols=wish["symbols"],
            channels=[TRADES, TICKER],
            callbacks={TRADES: TradeRabbit(host=broker), TICKER: TickerRabbit(host=broker)},
        )
    )
    handler.run()


if __name__ == "__main__":
    main()

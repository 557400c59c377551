"""Where each venue is spoken with."""

from __future__ import annotations

from botswarm.config import urls
from botswarm.config.kinds import Kind, Setting, choice


def _plain_url(encrypted: str, plain: str) -> Kind:
    """An address without a password in it; unencrypted only to this very machine."""

    def read(text: str) -> object:
        return urls.venue_url(text, encrypted, plain)

    words = f"{encrypted}:// URL, or {plain}:// to this machine"
    return Kind(read=read, schema={"type": "string", "format": "uri"}, words=words)


def _rest(venue: str, title: str, default: str) -> Setting:
    return Setting(
        name=f"{venue}_rest_url",
        kind=_plain_url("https", "http"),
        help=f"Where {title} REST protocol is spoken; anything but loopback needs https.",
        default=default,
    )


def _streams(venue: str, title: str, default: str) -> Setting:
    return Setting(
        name=f"{venue}_stream_url",
        kind=_plain_url("wss", "ws"),
        help=f"Where {title} public streams are; anything but loopback needs wss.",
        default=default,
    )


ENDPOINTS: tuple[Setting, ...] = (
    _rest("binance", "Binance's", "https://testnet.binance.vision"),
    Setting(
        name="binance_ws_api_url",
        kind=_plain_url("wss", "ws"),
        help="Where Binance's WebSocket API is spoken; anything but loopback needs wss.",
        default="wss://ws-api.testnet.binance.vision/ws-api/v3",
    ),
    Setting(
        name="binance_order_road",
        kind=choice("rest", "websocket"),
        help="How orders are placed at Binance: by REST, or over its WebSocket API. Questions and "
        "cancellations go by REST.",
        default="rest",
    ),
    _streams("binance", "Binance's", "wss://stream.testnet.binance.vision"),
    _rest("coinbase", "Coinbase Advanced Trade's", "https://api.coinbase.com"),
    _streams("coinbase", "Coinbase Advanced Trade's", "wss://advanced-trade-ws.coinbase.com"),
    Setting(
        name="coinbase_user_stream_url",
        kind=_plain_url("wss", "ws"),
        help="Where Coinbase Advanced Trade speaks of accounts; anything but loopback needs wss.",
        default="wss://advanced-trade-ws-user.coinbase.com",
    ),
    _rest("coinbase_exchange", "Coinbase Exchange's", "https://api.exchange.coinbase.com"),
    _streams("coinbase_exchange", "Coinbase Exchange's", "wss://ws-feed.exchange.coinbase.com"),
    _rest("kraken", "Kraken's", "https://api.kraken.com"),
    _streams("kraken", "Kraken's", "wss://ws.kraken.com/v2"),
    Setting(
        name="kraken_trading_url",
        kind=_plain_url("wss", "ws"),
        help="Where Kraken takes orders and speaks of accounts; anything but loopback needs wss.",
        default="wss://ws-auth.kraken.com/v2",
    ),
)

"""The settings that say who else is told of errors and traces: a Sentry server, a collector."""

from __future__ import annotations

from urllib.parse import urlsplit

from botswarm.config import urls
from botswarm.config.kinds import Kind, Setting
from botswarm.config.secret import MASK, Secret
from botswarm.errors import Problem

_DSN = "https://KEY@sentry.example/PROJECT"
_COLLECTOR = "https://collector.example:4318"


class Dsn(Secret):
    """A URL whose user is the key."""

    __slots__ = ()

    @property
    def masked(self) -> str:
        return self._value.replace(self._key, MASK)

    @property
    def hidden(self) -> tuple[str, ...]:
        return (self._key,)

    @property
    def _key(self) -> str:
        return urlsplit(self._value).username or self._value


class Headers(Secret):
    """Names and values; the values are the secret."""

    __slots__ = ()

    @property
    def hidden(self) -> tuple[str, ...]:
        pairs = (pair.partition("=")[2].strip() for pair in self._value.split(","))
        return (self._value, *(value for value in pairs if value))


def _dsn(text: str) -> object:
    url = urlsplit(text)
    is_one = url.scheme in ("http", "https") and url.hostname and url.username
    if not is_one or not url.path.rpartition("/")[2]:
        return Problem("is no DSN", f"copy it from the project's settings: {_DSN}")
    if url.scheme == "http" and url.hostname not in urls.HERE:
        return Problem("is not encrypted and leaves this machine", "write https:// instead")
    return Dsn(text)


def _collector(text: str) -> object:
    url = urls.server(text, ("https", "http"), _COLLECTOR)
    return url if isinstance(url, Problem) else text


def _headers(text: str) -> object:
    if all("=" in pair for pair in text.split(",")):
        return Headers(text)
    return Problem("are no headers", "write name=value,name=value")


TELEMETRY = (
    Setting(
        name="sentry_dsn",
        kind=Kind(read=_dsn, schema={"type": "string"}, words=_DSN),
        help="A Sentry server that is sent every error, as its log line says it: masked, and "
        "without the variables of frames.",
        default_words="none",
        conventional=("SENTRY_DSN",),
        secret=True,
    ),
    Setting(
        name="otlp_url",
        kind=Kind(read=_collector, schema={"type": "string"}, words=_COLLECTOR),
        help="An OpenTelemetry collector (OTLP over HTTP) that is sent the trace of each order, "
        "from the tick to the last fill.",
        default_words="none",
        conventional=("OTEL_EXPORTER_OTLP_ENDPOINT",),
    ),
    Setting(
        name="otlp_headers",
        kind=Kind(read=_headers, schema={"type": "string"}, words="name=value,name=value"),
        help="What the collector wants to be told with each request, such as its key.",
        default_words="none",
        conventional=("OTEL_EXPORTER_OTLP_HEADERS",),
        secret=True,
    ),
)

"""One short AMQP connection for a command, with every way it can fail told apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from botswarm.cli.failures import BrokerUnreachable
from botswarm.cli.management import reason
from botswarm.config import Secret

if TYPE_CHECKING:
    from botswarm.cli.session import Session

LIMIT_S = 5.0


def vhost_of(url: Secret) -> str:
    return unquote(urlsplit(url.reveal()).path[1:]) or "/"


@contextmanager
def channel(url: Secret, *, start_hint: str = "") -> Iterator[Any]:
    """An open channel of a connection that is closed afterwards.

    Raises BrokerUnreachable for everything that is the server's doing; an error of the channel
    itself (an unknown queue) is left to the caller as ``amqp.exceptions.ChannelError``.
    """
    from amqp.exceptions import AMQPError, ChannelError

    try:
        connection = _connect(url)
    except (OSError, AMQPError) as error:
        raise _unreachable(url, error, start_hint) from error
    try:
        yield connection.channel()
    except ChannelError:
        raise
    except TimeoutError as error:
        raise BrokerUnreachable(
            f"the broker at {url.masked} did not answer within {LIMIT_S:.0f} s",
            cure="look for a memory or disk alarm: it then takes no messages",
        ) from error
    except (OSError, AMQPError) as error:
        raise _unreachable(url, error, start_hint) from error
    finally:
        connection.collect()


def _connect(url: Secret) -> Any:
    from amqp import Connection

    parts = urlsplit(url.reveal())
    encrypted = parts.scheme == "amqps"
    host = parts.hostname or ""
    port = parts.port or (5671 if encrypted else 5672)
    connection = Connection(
        host=f"{f'[{host}]' if ':' in host else host}:{port}",
        userid=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=vhost_of(url),
        # Without the name a certificate of any host would do.
        ssl={"server_hostname": host} if encrypted else False,
        connect_timeout=LIMIT_S,
        read_timeout=LIMIT_S,
        write_timeout=LIMIT_S,
        client_properties={"connection_name": "botswarm command"},
    )
    connection.connect()
    return connection


def _unreachable(url: Secret, error: BaseException, start_hint: str) -> BrokerUnreachable:
    from amqp.exceptions import AccessRefused, NotAllowed

    if isinstance(error, AccessRefused):
        return BrokerUnreachable(
            f"the broker at {url.masked} refuses this user", cure="check the name and the password"
        )
    if isinstance(error, NotAllowed):
        return BrokerUnreachable(
            f"the broker at {url.masked} lets this user into no vhost {vhost_of(url)!r}",
            cure="create the vhost, or give the user permissions in it",
        )
    return BrokerUnreachable(
        f"cannot reach the broker at {url.masked} ({reason(error)})",
        cure=start_hint or "check that RabbitMQ runs there: botswarm doctor --only broker",
    )


def broker_of(session: Session) -> tuple[Secret, Secret | None, str]:
    """The broker's address, its management API's, and what to do when it cannot be reached."""
    from botswarm.cli.failures import NoBroker

    configuration = session.configuration()
    settings = configuration.settings
    if settings.broker_url is None:
        raise NoBroker(
            f"no broker is configured, and none was started in {settings.state_dir}",
            cure="start one: botswarm broker run; or set BOTSWARM_BROKER_URL",
        )
    embedded = configuration.origins["broker_url"].startswith("embedded")
    hint = "start it: botswarm broker run" if embedded else ""
    return settings.broker_url, settings.broker_management_url, hint

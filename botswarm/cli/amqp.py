"""One short AMQP connection for a command, with every way it can fail told apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botswarm.cli.broker_url import broker_url_of
from botswarm.cli.failures import BrokerUnreachable
from botswarm.cli.management import reason
from botswarm.config import Secret
from botswarm.health.broker import connect, vhost_of

if TYPE_CHECKING:
    from botswarm.cli.session import Session

__all__ = ["broker_of", "channel", "vhost_of"]

LIMIT_S = 5.0


@contextmanager
def channel(url: Secret, *, start_hint: str = "") -> Iterator[Any]:
    """An open channel of a connection that is closed afterwards.

    Raises BrokerUnreachable for everything that is the server's doing; an error of the channel
    itself (an unknown queue) is left to the caller as ``amqp.exceptions.ChannelError``.
    """
    from amqp.exceptions import AMQPError, ChannelError

    try:
        connection = connect(url, "botswarm command", LIMIT_S)
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
    configuration = session.configuration()
    settings = configuration.settings
    url = broker_url_of(settings)
    embedded = configuration.origins["broker_url"].startswith("embedded")
    hint = "start it: botswarm broker run" if embedded else ""
    return url, settings.broker_management_url, hint

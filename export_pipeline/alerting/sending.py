"""Send a message to the service of an apprise URL; the URL appears in no log."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from export_pipeline.alerting.happening import AlertMessage
from export_pipeline.errors import AlertNotSent
from export_pipeline.secrets import MIN_SCRUBBED_CHARACTERS, scrub

# apprise logs messages and addresses, urllib3 the paths of requests, and a webhook's path contains its token.
_TALKATIVE = ("apprise", "urllib3", "requests", "httpx", "httpcore", "httpx2", "httpcore2")
_NO_ADDRESS = "the address is not an apprise URL, or apprise does not support its service"
_PARTS = re.compile(r"[/:@?&=#,\s]+")
# In many apprise URLs a token follows the scheme, but these are ordinary words.
_HARMLESS = {"localhost", "https", "http"}


def send(url: str, message: AlertMessage, *, secrets: Iterable[str] = ()) -> None:
    """Send *message*; returns once the service has accepted it.

    Args:
        url: an apprise URL.
        secrets: values that must not appear in errors.

    Raises:
        AlertNotSent: the URL is invalid, or the service did not accept the message. Says why, without the URL.
    """
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType, OverflowMode

    with _quietly() as said:
        # No async: one message to one service, in this thread.
        sender = Apprise(asset=AppriseAsset(async_mode=False))
        added = sender.add(url)
        if added:
            for service in sender:
                # By default a text that is too long for the service is sent anyway, and refused.
                if service.overflow_mode == OverflowMode.UPSTREAM:
                    service.overflow_mode = OverflowMode.SPLIT
            taken = sender.notify(
                body=message.body,
                title=message.title,
                notify_type=NotifyType(message.kind),
                body_format=NotifyFormat.TEXT,
            )
    if not added:
        raise AlertNotSent(_NO_ADDRESS)
    if not taken:
        reason = "; ".join(dict.fromkeys(said)) or "the service did not accept it, and apprise gives no reason"
        raise AlertNotSent(scrub(reason, {*secrets, *parts_of(url)}))


def service_of(url: str) -> str:
    """The name of the service of an apprise URL; nothing is sent.

    Raises:
        AlertNotSent: it is not an apprise URL, or one of a service that apprise does not support.
    """
    from apprise import Apprise

    with _quietly():
        sender = Apprise()
        added = sender.add(url)
    if not added:
        raise AlertNotSent(_NO_ADDRESS)
    return ", ".join(str(service.service_name) for service in sender)


def parts_of(url: str) -> set[str]:
    """The URL and every part of it that can be a secret: tokens, passwords, users, hosts, but not the scheme."""
    _, _, rest = url.partition("://")
    parts = {part for part in _PARTS.split(rest) if len(part) >= MIN_SCRUBBED_CHARACTERS and not part.isdigit()}
    return {url, *(parts - _HARMLESS)}


@contextmanager
def _quietly() -> Iterator[list[str]]:
    """Suppress all logging of the libraries; yields a list of apprise's warnings."""
    said: list[str] = []
    listener = _Listener(said)
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.propagate for logger in loggers]
    handlers = [list(logger.handlers) for logger in loggers]
    try:
        for logger in loggers:
            logger.propagate = False
            logger.handlers = []
        loggers[0].addHandler(listener)
        yield said
    finally:
        for logger, propagate, own in zip(loggers, before, handlers, strict=True):
            logger.propagate = propagate
            logger.handlers = own


class _Listener(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())

"""Exchanges JSON with an HTTP endpoint, within a total time and a largest size.

A timeout of a socket bounds each silence only; a server that sends one byte now and then would hold its client for
ever, and one that never stops would fill the memory. Here the whole exchange is bounded, the name look-up included.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

Found = TypeVar("Found")
CHUNK = 1 << 16
TRIES = 8  # of an endpoint that fails one time in five, one request in 400,000 has no answer
PAUSE = 1.0  # seconds before the second try, twice as many before the third, three times as many before the fourth
PATIENCE = 3  # times what one try may take; where tries together took longer, no further one is made


class EndpointError(Exception):
    """No answer, or one too late or too long; says why, without any header of the request."""


class TooLateError(EndpointError):
    """The whole answer was not there in time."""


class RetryError(Exception):
    """A failure that may pass: no answer, a busy server, half an answer."""


class GivenUpError(Exception):
    """No try gave anything; says why the last one failed, and how many there were."""


def retried(
    attempt: Callable[[], Found], seconds: float, pause: Callable[[float], None] = time.sleep
) -> tuple[Found, int]:
    """What the first try comes to that does not raise RetryError, and how many failed before it.

    Args:
        seconds, pause: see `tries`.

    Raises:
        GivenUpError: if all of them fail.
    """
    reason, failed = "", 0
    for failed in tries(seconds, pause):
        try:
            return attempt(), failed
        except RetryError as error:
            reason = str(error)
    raise GivenUpError(f"{reason} ({failed + 1} tries)")


def tries(seconds: float, pause: Callable[[float], None] = time.sleep) -> Iterator[int]:
    """Says before each try how many have failed, up to `TRIES`; waits 1, 2, 3, ... seconds before each but the first.

    >>> list(tries(60.0, pause=lambda seconds: None))
    [0, 1, 2, 3, 4, 5, 6, 7]

    Args:
        seconds: what one try may take; an endpoint that is silent is not asked for longer than three times that.
        pause: waits that many seconds.
    """
    spent = 0.0
    for failed in range(TRIES):
        if failed:
            if spent >= PATIENCE * seconds:
                return
            pause(PAUSE * failed)
        began = time.monotonic()
        yield failed
        spent += time.monotonic() - began


def post_json(
    url: str,
    body: Any,
    *,
    seconds: float,
    largest: int,
    headers: Mapping[str, str] = {},
    proxies: bool = True,
) -> tuple[int, bytes]:
    """The status and the content of the answer to a POST of JSON; redirects are not followed.

    Args:
        seconds: for everything together, from the name look-up to the last byte.
        largest: bytes that are read at most.
        proxies: go through the proxies that the environment names.

    Raises:
        EndpointError: if there is no whole answer within these bounds.
    """
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}, method="POST")
    return _bounded(request, seconds, largest, proxies)


def get_json(
    url: str, *, seconds: float, largest: int, headers: Mapping[str, str] = {}, proxies: bool = True
) -> tuple[int, bytes]:
    """The same of a GET."""
    return _bounded(Request(url, headers=dict(headers), method="GET"), seconds, largest, proxies)


def _bounded(request: Request, seconds: float, largest: int, proxies: bool) -> tuple[int, bytes]:
    answer: Future[tuple[int, bytes]] = Future()

    def exchange() -> None:
        try:
            answer.set_result(_exchange(_opener(proxies), request, seconds, largest))
        except BaseException as error:  # noqa: BLE001 (whatever it is, the waiting thread raises it)
            answer.set_exception(error)

    # A daemon, since it cannot be ended: where headers come in drops it lives on, and must not hold up the exit.
    threading.Thread(target=exchange, daemon=True).start()
    # An error is named by its type: the words of some repeat a header of the request, and so a key.
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        raise TooLateError(f"no answer within {seconds:g} seconds") from error
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise TooLateError(f"no answer within {seconds:g} seconds") from error
        raise EndpointError(type(error.reason).__name__) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EndpointError(type(error).__name__) from error


def _opener(proxies: bool) -> OpenerDirector:
    """Opens http and https; hands back every status as it is, and follows nothing."""
    opener = OpenerDirector()
    for handler in (ProxyHandler(None if proxies else {}), HTTPHandler(), HTTPSHandler()):
        opener.add_handler(handler)
    return opener


def _exchange(opener: OpenerDirector, request: Request, seconds: float, largest: int) -> tuple[int, bytes]:
    deadline = time.monotonic() + seconds
    with opener.open(request, timeout=seconds) as response:
        content = bytearray()
        while chunk := response.read1(CHUNK):
            content += chunk
            if len(content) > largest:
                raise EndpointError(f"more than {largest} bytes came back")
            if time.monotonic() > deadline:
                raise TimeoutError
        if response.length:  # `read1` takes the end of a connection for the end of the answer
            raise http.client.IncompleteRead(bytes(content), response.length)
        return response.status, bytes(content)

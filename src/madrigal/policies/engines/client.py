"""Asks a server by HTTP, again where that may help; the key is read from the environment and shown to nobody.

Engines ask so, and policies that speak from elsewhere.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from madrigal.tasks.endpoint import (
    EndpointError,
    GivenUpError,
    RetryError,
    TooLateError,
    get_json,
    post_json,
    retried,
    tries,
)
from madrigal.types import ConfigError, EngineError

Found = TypeVar("Found")
LARGEST = 1 << 26  # bytes of a reply
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
SECRET = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}  # whose words may repeat a part of the key


class Place(Protocol):
    """What settings say of a server.

    Attributes:
        section: of the settings, for advice.
        remedy: what else helps where nobody answers.
        name: what errors call it.
        base: its address, to which paths are added.
        key_variable: the environment variable with the key.
        seconds: for one whole answer.
    """

    @property
    def section(self) -> str: ...
    @property
    def remedy(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def key_variable(self) -> str: ...
    @property
    def seconds(self) -> float: ...


class Client:
    """Asks a server, again where that may help.

    Attributes:
        retries: how often anything was asked again.
    """

    def __init__(self, config: Place, pause: Callable[[float], None] = time.sleep) -> None:
        """Reads the key, if there is one.

        Raises:
            ConfigError: if it cannot stand in a header.
        """
        self.config, self.pause, self.retries = config, pause, 0
        self.url = config.base
        self.key = os.environ.get(config.key_variable, "").strip()
        if not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError(f"expected a key of plain ASCII characters in {config.key_variable}; set it again")
        self.proxies = urlsplit(self.url).hostname not in LOOPBACK

    def ask(self, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], Found]) -> Found:
        """What `read` makes of the JSON that comes; a body is posted.

        Args:
            read: raises ValueError for JSON that is not what was asked for.

        Raises:
            EngineError: if the server refuses, or all tries fail.
        """
        return self.ask_counting(path, body, read)[0]

    def ask_counting(
        self, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], Found]
    ) -> tuple[Found, int]:
        """As `ask`; and how many tries failed before."""

        def attempt() -> Found:
            try:
                return read(self._exchange(path, body))
            except ValueError as error:
                raise RetryError(f"expected {self.shown(str(error).encode(errors='replace'), 300)}") from error

        try:
            found, failed = retried(attempt, self.config.seconds, self.pause)
        except GivenUpError as error:
            raise EngineError(f"{self.config.name}: {error}") from error
        self.retries += failed
        return found, failed

    def tries(self) -> Iterator[int]:
        """Says before each try how many have failed; counts and waits before each but the first."""
        for failed in tries(self.config.seconds, self.pause):
            self.retries += failed > 0
            yield failed

    def _exchange(self, path: str, body: Mapping[str, Any] | None) -> Any:
        status, content = self.exchange(path, body)
        if status == HTTPStatus.OK:
            try:
                return json.loads(content)
            except (ValueError, RecursionError) as error:
                raise RetryError(f"expected JSON, got {self.shown(content)!r}") from error
        reason = self.reason(status, content)
        if status in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise RetryError(reason)
        raise EngineError(f"{self.config.name}: {reason}")

    def exchange(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        """Status and content, of one try.

        Raises:
            RetryError: if there are none.
        """
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        how: dict[str, Any] = {"seconds": self.config.seconds, "largest": LARGEST, "headers": headers}
        how["proxies"] = self.proxies
        try:
            return get_json(self.url + path, **how) if body is None else post_json(self.url + path, body, **how)
        except TooLateError as error:
            raise RetryError(f"{error}; raise {self.config.section}.seconds, or look at the server") from error
        except EndpointError as error:
            raise RetryError(f"could not be asked ({error}); {self.config.remedy}") from error

    def peek(self, path: str, body: Mapping[str, Any] | None) -> tuple[int, bytes]:
        """The same of what a server need not have; 0 and nothing where there is no answer."""
        try:
            return self.exchange(path, body)
        except RetryError:
            return 0, b""

    def reason(self, status: int, content: bytes) -> str:
        """Why a request failed, in the server's own words where these cannot hold the key."""
        if status in SECRET:
            return f"refused with status {status}; set its key in the environment as {self.config.key_variable}"
        try:
            said = json.loads(content)
        except (ValueError, RecursionError):
            said = None
        match said:
            case (
                {"error": {"message": str(message)}}
                | {"error": str(message)}
                | {"message": str(message)}
                | {"error_message": str(message)}
            ):
                return f"refused with status {status}: {self.shown(message.encode(), 300)}"
            case {"detail": detail}:
                return f"refused with status {status}: {self.shown(str(detail).encode(), 300)}"
        return f"refused with status {status}"

    def shown(self, content: bytes, most: int = 60) -> str:
        """The beginning of what came, in one line and without the key."""
        text = content[:4096].decode(errors="replace")
        if self.key:
            text = text.replace(self.key, "***")
        return " ".join(text.split())[:most]

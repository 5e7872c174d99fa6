"""The settings of a verifier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from madrigal.types import ConfigError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class VerifierConfig:
    """Who says how good an answer is.

    Attributes:
        kind: "exact" compares results with the reference answer's; "symbolic" does so by algebra ("1/2" is "0.5"), with
            `pip install 'madrigal[math]'`; "learned" asks a model that `madrigal verifier train` made, in a process of
            its own; "http" asks a server that runs already (`madrigal verifier serve`).
        model: the folder of the learned verifier.
        url: of the running server, on this machine; a remote one is reached through a tunnel.
        seconds: how long one request may take as a whole; a request that fails is made again, eight times in all.
            A silent server is not asked for longer than three times as long.
    """

    kind: Literal["exact", "symbolic", "learned", "http"] = "exact"
    model: str = ""
    url: str = ""
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ConfigError(f"verifier.seconds: expected a positive number of seconds, got {self.seconds}")
        if self.kind == "learned" and not self.model:
            raise ConfigError(
                "verifier.kind learned: name a folder with --task.verifier.model; madrigal verifier train makes one"
            )
        if self.kind == "http":
            check_url(self.url)


def check_url(url: str) -> tuple[str, int]:
    """Host and port of a server on this machine; questions and answers are sent nowhere else.

    >>> check_url("http://127.0.0.1:8501")
    ('127.0.0.1', 8501)

    Raises:
        ConfigError: if it is anything else.
    """
    wrong = ConfigError(f"verifier.url: expected one like http://127.0.0.1:8501, on this machine, got {url!r}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise wrong from error
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    if parts.scheme != "http" or host not in LOOPBACK or port is None or not plain:
        raise wrong
    return host, port

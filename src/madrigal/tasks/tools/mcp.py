"""The tools of MCP servers, by the `mcp` client: each server is a process that a command starts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from madrigal.tasks.tools.tool import Tool
from madrigal.types import ConfigError

START = 30.0  # seconds in which a server must have said what it has


def server_tools(command: str, seconds: float, stack: ExitStack) -> Iterator[Tool]:
    """Starts a server, which is ended with `stack`, and yields its tools.

    Raises:
        ConfigError: if the package is missing, or the server does not start or says nothing.
    """
    try:
        from anyio.from_thread import start_blocking_portal
        from mcp import Client, StdioServerParameters, stdio_client
    except ImportError as error:
        raise ConfigError("tools.mcp needs the package mcp; install it: pip install 'madrigal[mcp]'") from error
    words = shlex.split(command)
    if not words:
        raise ConfigError("tools.mcp: expected a command that starts a server, got nothing")
    portal = stack.enter_context(start_blocking_portal())
    silence = stack.enter_context(open(os.devnull, "w"))  # noqa: PTH123, SIM115
    transport = stdio_client(StdioServerParameters(command=words[0], args=words[1:]), errlog=silence)
    client = Client(transport, read_timeout_seconds=START)
    try:
        stack.enter_context(portal.wrap_async_context_manager(client))
        listed = portal.call(client.list_tools)
    except Exception as error:  # whatever a command that is no server makes of it
        raise ConfigError(
            f"tools.mcp: {command!r:.80} is no MCP server that answers ({_words(error)}); expected a command that "
            "speaks the protocol on its standard input and output"
        ) from error

    def calling(name: str) -> Callable[..., str]:
        def call(**arguments: object) -> str:
            answer: Future[Any] = portal.start_task_soon(client.call_tool, name, arguments, seconds)
            result = answer.result()
            text = "\n".join(part.text for part in result.content if part.type == "text")
            if result.is_error:
                raise RuntimeError(text)
            return text

        return call

    for each in listed.tools:
        what = (each.description or each.name).split("\n")[0]
        properties = each.input_schema.get("properties", {})
        kinds = {name: str(schema.get("type", "string")) for name, schema in properties.items()}
        yield Tool(each.name, what, kinds, calling(each.name), each.input_schema)


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:120]

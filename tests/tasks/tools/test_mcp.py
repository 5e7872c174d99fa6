"""The tools of a real MCP server, in a process of its own."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from madrigal.rollouts.topology import Parallel
from madrigal.tasks.tools.calls import Call, call_in, described
from madrigal.tasks.tools.config import ToolsConfig, with_tools
from madrigal.tasks.tools.ledger import Ledger, LedgerTask
from madrigal.tasks.tools.mcp import server_tools
from madrigal.tasks.tools.tool import Result, called
from madrigal.types import ConfigError

pytest.importorskip("mcp")
SERVER = '''
from mcp.server import MCPServer

server = MCPServer("shop")


@server.tool()
def double(number: int) -> str:
    """Two times a number.

    And more about it.
    """
    return str(2 * number)


@server.tool()
def refuse(reason: str) -> str:
    """Never works."""
    raise ValueError(reason)


server.run("stdio")
'''


def test_tools_of_a_server_are_listed_described_and_called(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / 'server.py'))}"
    with ExitStack() as stack:
        tools = {tool.name: tool for tool in server_tools(command, 20.0, stack)}
        assert [(tool.name, tool.what) for tool in tools.values()] == [
            ("double", "Two times a number."),
            ("refuse", "Never works."),
        ]
        assert called(tools["double"], {"number": 21}, 20.0) == Result("42")
        assert call_in("double: 21", tools, "line") == Call("double", {"number": 21})
        assert '"number": {"title": "Number", "type": "integer"}' in described(tools, "json")
        refused = called(tools["refuse"], {"reason": "closed today"}, 20.0)
        assert refused.failed and "Error executing tool refuse" in refused.text
        assert called(tools["double"], {"digit": 3}, 20.0).failed, "the server looks at arguments itself"


def test_a_command_that_is_no_server_is_one_line() -> None:
    for command, words in ((f"{sys.executable} -c pass", "no MCP server that answers"), ("", "expected a command")):
        with pytest.raises(ConfigError, match=words), ExitStack() as stack:
            list(server_tools(command, 5.0, stack))
    config = ToolsConfig(mcp=("no-such-program-anywhere",))
    with pytest.raises(ConfigError, match="no MCP server"), with_tools(LedgerTask(Ledger()), config, Parallel()):
        pass

"""The settings of tools, and a task with the tools that they name."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from madrigal.rollouts.task import Task
from madrigal.rollouts.topology import Parallel, Sequential, TopologyConfig
from madrigal.tasks.own import CustomTask, module_object, object_names
from madrigal.tasks.tools import kit
from madrigal.tasks.tools.calls import Style
from madrigal.tasks.tools.tool import Tool, tool_of
from madrigal.tasks.tools.using import ToolUsing
from madrigal.types import AgentId, ConfigError, unknown

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class ToolsConfig:
    """Tools that agents may call before they answer; none by default.

    Attributes:
        names: "calculator", "python" (a program in the sandbox), or tools that the task brings.
        path: own ones: "file.py:name" of a function or of a list of them.
        mcp: commands that start MCP servers, all of whose tools are there.
        calls: at most, of an agent in one round.
        seconds: that one call may take.
        style: how a call is written: "line" is `name: argument`, "json" the <tool_call> of Qwen and Hermes.
        agents: who may call; () is everybody.
    """

    names: tuple[str, ...] = ()
    path: str = ""
    mcp: tuple[str, ...] = ()
    calls: int = 1
    seconds: float = 5.0
    style: Style = "line"
    agents: tuple[AgentId, ...] = ()

    def __post_init__(self) -> None:
        if self.calls < 1:
            raise ConfigError(f"tools.calls: expected at least 1, got {self.calls}")
        if not 0 < self.seconds < float("inf"):
            raise ConfigError(f"tools.seconds: expected seconds above 0, got {self.seconds}")

    @property
    def wanted(self) -> bool:
        return bool(self.names or self.path or self.mcp)


@contextmanager
def with_tools(task: Task[S], config: ToolsConfig, topology: TopologyConfig) -> Iterator[Task[Any]]:
    """The task with its tools, or as it is where none are named; leaving the context closes what they opened.

    Raises:
        ConfigError: if there is no such tool, two have one name, or agents speak in a way that leaves no room for it.
    """
    if not config.wanted:
        yield task
        return
    if not isinstance(topology, Parallel | Sequential):
        raise ConfigError(
            "tools: agents that call tools speak at once or one by one; take --topology parallel or sequential"
        )
    if strangers := set(config.agents) - set(task.agents):
        raise ConfigError(
            f"tools.agents: {', '.join(sorted(strangers))} is no agent of {task.name}; expected some of "
            f"{', '.join(task.agents)}"
        )
    order = (topology.order or tuple(task.agents)) if isinstance(topology, Sequential) else ()
    with ExitStack() as stack:
        tools = dict[str, Tool]()
        for tool in _tools(task, config, stack):
            if tool.name in tools:
                raise ConfigError(f"tools: two are called {tool.name}, so that a call could mean either; leave one out")
            tools[tool.name] = tool
        yield ToolUsing(task, tools, config.calls, config.seconds, config.style, config.agents, order)


def lasting_tools(task: Task[S], config: ToolsConfig, topology: TopologyConfig) -> Task[Any]:
    """The same, with what the tools opened closed when the task is no longer used.

    Raises:
        ConfigError: as `with_tools`.
    """
    stack = ExitStack()
    tooled = stack.enter_context(with_tools(task, config, topology))
    if config.wanted:
        weakref.finalize(tooled, stack.close)
    return tooled


def _tools(task: Task[Any], config: ToolsConfig, stack: ExitStack) -> Iterator[Tool]:
    given: Sequence[Tool] = getattr(task, "tools", ())
    there: Mapping[str, Callable[[], Tool]] = {
        "calculator": kit.calculator,
        "python": lambda: kit.python(stack, config.seconds),
        **{tool.name: lambda tool=tool: tool for tool in given},  # type: ignore[misc]
    }
    for name in config.names:
        if name not in there:
            raise ConfigError(f"tools.names: {unknown('tool', name, there)}")
        yield there[name]()
    if config.path:
        yield from own_tools(config.path)
    if config.mcp:
        from madrigal.tasks.tools.mcp import server_tools  # an optional package

        for command in config.mcp:
            yield from server_tools(command, config.seconds, stack)


def own_tools(path: str) -> list[Tool]:
    """The tools of a user's file: a function, or a list of functions.

    Raises:
        ConfigError: if there is no such file or object, or it is anything else.
    """
    place = CustomTask(path)
    made = module_object(place, object_names(place)[1])
    functions = list(made) if isinstance(made, list | tuple) else [made]
    if not functions or not all(callable(each) for each in functions):
        raise ConfigError(f"tools.path {path}: expected a function or a list of functions, got {made!r:.60}")
    return [each if isinstance(each, Tool) else tool_of(each) for each in functions]

"""How a call is written in an answer, and how tools are described to an agent: as lines, or as JSON.

calculator: 12 * 7                        the last line of an answer; several arguments stand between bars
<tool_call>                               the form in which Qwen and Hermes models have learned to call
{"name": "calculator", "arguments": {"expression": "12 * 7"}}
</tool_call>
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from madrigal.tasks.tools.tool import Tool

Style = Literal["line", "json"]
_LINE = re.compile(r"([A-Za-z][\w-]*): *(.*)")
_BLOCK = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_READ: Mapping[str, Callable[[str], object]] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": lambda text: {"true": True, "false": False}[text.lower()],
}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that an answer makes.

    Attributes:
        name: of the tool.
        arguments: by name.
        mistake: why it cannot be made; "" where it can.
    """

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    mistake: str = ""


def call_in(text: str, tools: Mapping[str, Tool], style: Style) -> Call | None:
    """The first call in an answer; None where it makes none."""
    return _call_on_line(text, tools) if style == "line" else _call_in_block(text, tools)


def _call_on_line(text: str, tools: Mapping[str, Tool]) -> Call | None:
    """
    >>> _call_on_line("Let me see.\\ndouble: 21", {"double": Tool("double", "", {"number": "integer"}, int)})
    Call(name='double', arguments={'number': 21}, mistake='')
    """
    match = _LINE.fullmatch(text.strip().rpartition("\n")[2].strip())
    tool = tools.get(match[1]) if match else None
    if tool is None or match is None:
        return None
    given = [part.strip() for part in match[2].split("|", len(tool.parameters) - 1)] if tool.parameters else []
    if len(given) != len(tool.parameters):
        return Call(tool.name, mistake=f"expected {_signature(tool)}, got {len(given)} arguments")
    arguments = dict[str, object]()
    for (name, kind), part in zip(tool.parameters.items(), given, strict=True):
        try:
            arguments[name] = _READ[kind](part)
        except (ValueError, KeyError):
            return Call(tool.name, mistake=f"{name}: expected a value of type {kind}, got {part!r:.60}")
    return Call(tool.name, arguments)


def _call_in_block(text: str, tools: Mapping[str, Tool]) -> Call | None:
    block = _BLOCK.search(text)
    if block is None:
        return None
    try:
        made: Any = json.loads(block[1])
    except (ValueError, RecursionError):
        return Call("", mistake='expected {"name": ..., "arguments": {...}} in JSON')
    match made:
        case {"name": str(name), "arguments": dict(arguments)} if name in tools:
            return Call(name, arguments, _mismatch(tools[name], arguments))
        case {"name": str(name), "arguments": dict()}:
            return Call(name, mistake=f"there is no tool {name!r:.60}, but {', '.join(tools)}")
    return Call("", mistake='expected {"name": ..., "arguments": {...}}')


def _mismatch(tool: Tool, arguments: Mapping[str, object]) -> str:
    """What is wrong with arguments; "" for nothing. Tools with a schema look at them themselves."""
    if tool.schema is not None:
        return ""
    if arguments.keys() != tool.parameters.keys():
        return f"expected {_signature(tool)}, got {', '.join(map(str, arguments)) or 'no arguments'}"
    for name, kind in tool.parameters.items():
        value = arguments[name]
        if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
            return f"{name}: expected a value of type {kind}, got {value!r:.60}"
    return ""


def _signature(tool: Tool) -> str:
    return f"{tool.name}({', '.join(tool.parameters)})"


def described(tools: Mapping[str, Tool], style: Style) -> str:
    """What an agent is told of its tools."""
    if style == "line":
        lines = [f"{tool.name}: {' | '.join(tool.parameters)} - {tool.what}" for tool in tools.values()]
        return "\n".join(["You may call a tool by a last line of this form, and read its answer:", *lines])
    functions = [
        {"type": "function", "function": {"name": tool.name, "description": tool.what, "parameters": _schema(tool)}}
        for tool in tools.values()
    ]
    return "\n".join(
        [
            "# Tools\n",
            "You may call a function. These are there:",
            "<tools>",
            *map(json.dumps, functions),
            "</tools>\n",
            "To call one, answer with its name and arguments as JSON, and read what it returns:",
            "<tool_call>",
            '{"name": <function-name>, "arguments": <args-json-object>}',
            "</tool_call>",
        ]
    )


def _schema(tool: Tool) -> Mapping[str, Any]:
    if tool.schema is not None:
        return tool.schema
    properties = {name: {"type": kind} for name, kind in tool.parameters.items()}
    return {"type": "object", "properties": properties, "required": list(tool.parameters)}

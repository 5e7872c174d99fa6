"""How a call is written in an answer, and how tools are described to an agent: as lines, or as JSON.

calculator: 12 * 7                        the last line of an answer; several arguments stand between bars
<tool_call>                               the form in which Qwen and Hermes models have learned to call
{"name": "calculator", "arguments": {"expression": "12 * 7"}}
</tool_call>
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal, NoReturn

from madrigal.tasks.tools.tool import Tool
from madrigal.types import Message, Messages

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
    call = _written(block[1])
    if call.mistake:
        return call
    if call.name not in tools:
        return Call(call.name, mistake=f"there is no tool {call.name!r:.60}, but {', '.join(tools)}")
    return replace(call, mistake=_mismatch(tools[call.name], call.arguments))


def calls_in(text: str, names: Collection[str] | None = None) -> tuple[str, tuple[Call, ...]]:
    """An answer's words without its <tool_call> blocks, and the calls in them.

    The whole text and no call where one of them cannot be read, or is of no tool of these names; None is any.

    >>> calls_in('Let me see. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', {"add"})
    ('Let me see.', (Call(name='add', arguments={'a': 1}, mistake=''),))
    """
    calls = tuple(_written(block[1]) for block in _BLOCK.finditer(text))
    if not calls or any(call.mistake or (names is not None and call.name not in names) for call in calls):
        return text, ()
    return _BLOCK.sub("", text).strip(), calls


def block_of(name: str, arguments: object) -> str:
    """A call as it stands in an answer."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def _written(block: str) -> Call:
    """The call that a block writes; a mistake where it writes none."""
    try:
        made: Any = json.loads(block, parse_constant=_no_number)
        json.dumps(made, allow_nan=False)  # a number may be beyond all floats
    except (ValueError, RecursionError):
        return Call("", mistake='expected {"name": ..., "arguments": {...}} in JSON')
    match made:
        case {"name": str(name), "arguments": dict(arguments)}:
            return Call(name, arguments)
    return Call("", mistake='expected {"name": ..., "arguments": {...}}')


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


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
    return functions_described(
        [
            {"type": "function", "function": {"name": tool.name, "description": tool.what, "parameters": _schema(tool)}}
            for tool in tools.values()
        ]
    )


def functions_described(functions: Sequence[Mapping[str, Any]]) -> str:
    """What an agent is told of functions in the form of OpenAI's interface, and of how it calls one."""
    return "\n".join(
        [
            "# Tools\n",
            "You may call a function. These are there:",
            "<tools>",
            *(json.dumps(function, ensure_ascii=False) for function in functions),
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


def results_of(results: Sequence[str]) -> Message:
    """What tools said, as a text of the user's."""
    return Message("user", "\n".join(f"<tool_response>\n{result}\n</tool_response>" for result in results))


def with_words(shown: Messages, words: str) -> Messages:
    """A prompt with more words at the end of the first message to the agent that is no answer of its own."""
    first = next((n for n, message in enumerate(shown) if message.role == "user"), None)
    if first is None:
        return (*shown, Message("user", words))
    message = replace(shown[first], content=f"{shown[first].content}\n\n{words}")
    return (*shown[:first], message, *shown[first + 1 :])


def in_words(messages: Messages) -> Messages:
    """A prompt in which tools, and what they said, stand in texts of the user's: for whom knows of no tools.

    >>> in_words((Message("user", "6 * 7?"), Message("tool", "42"), Message("tool", "none")))[1].content
    '<tool_response>\\n42\\n</tool_response>\\n<tool_response>\\nnone\\n</tool_response>'
    """
    shown: Messages = ()
    for role, group in groupby((m for m in messages if m.role != "tools"), key=lambda message: message.role):
        together = tuple(group)
        shown += (results_of([message.content for message in together]),) if role == "tool" else together
    functions = [
        function for message in messages if message.role == "tools" for function in json.loads(message.content)
    ]
    return with_words(shown, functions_described(functions)) if functions else shown

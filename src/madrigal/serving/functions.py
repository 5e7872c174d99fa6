"""Function tools in OpenAI's interface: what a request offers, what an answer calls, and chats that hold both.

A model reads and writes text. What it may call stands before its prompt as a message of its own, which `policies.chat`
spells; calls are read from its words, and in its later prompts these very words stand again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from madrigal.serving.protocol import RefusedError
from madrigal.tasks.tools.calls import block_of, calls_in
from madrigal.types import Message

NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}}
DEEPEST = 100  # levels of a schema
Record = Mapping[str, Any]  # a tool, or a call, as clients write and read it


@dataclass(frozen=True, slots=True)
class Offer:
    """What a request says that may be called.

    Attributes:
        tools: by name.
        single: whether a client reads one call of an answer, and no more.
    """

    tools: Mapping[str, Record]
    single: bool = False

    @property
    def message(self) -> tuple[Message, ...]:
        """What stands before a prompt."""
        return (Message("tools", json.dumps(list(self.tools.values()))),) if self.tools else ()

    def spoken(self, text: str, name: str) -> tuple[str, tuple[Record, ...]]:
        """An answer as clients read it: its words, and its calls; words alone where it makes none that can be read.

        Args:
            name: of the answer; the ids of its calls derive from that.
        """
        words, calls = _records(text, name, self.tools)
        return words, calls[:1] if self.single else calls


def take_offer(fields: dict[str, Any]) -> Offer:
    """Takes what may be called out of a request.

    Raises:
        RefusedError: if it is no list of functions, or an answer is wanted that no model can be made to give.
    """
    tools, choice = fields.pop("tools", None) or [], fields.pop("tool_choice", None)
    single = fields.pop("parallel_tool_calls", None) is False
    if choice not in (None, "auto", "none"):
        raise RefusedError(
            "tool_choice: answers are drawn as the run trains them, so that none can be made to call; expected auto or "
            "none",
            param="tool_choice",
            code="unsupported_parameter",
        )
    if not isinstance(tools, list):
        raise RefusedError(f"tools: expected a list of functions, got {tools!r:.60}", param="tools")
    read = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(tools)]
    return Offer({} if choice == "none" else {tool["function"]["name"]: tool for tool in read}, single)


def _tool(given: Any, where: str) -> Record:
    match given:
        case {"type": "function", "function": {"name": str(name), **more}} if re.fullmatch(
            r"[A-Za-z0-9_-]{1,64}", name
        ):
            what, parameters = more.get("description") or "", more.get("parameters") or NOTHING
            if isinstance(what, str) and isinstance(parameters, dict) and not _deeper(parameters, DEEPEST):
                function = {"name": name, "description": what, "parameters": parameters}
                return {"type": "function", "function": function}
    raise RefusedError(
        f'{where}: expected {{"type": "function", "function": {{"name", "description", "parameters"}}}} with a name of '
        f"up to 64 letters, digits, _ and -, a text and a JSON schema of at most {DEEPEST} levels, got {given!r:.80}",
        param="tools",
    )


def _deeper(value: Any, levels: int) -> bool:
    """Whether a value has more levels than so many: what is read here could be too deep where others read it again."""
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_deeper(one, levels - 1) for one in within)


def _records(text: str, name: str, among: Collection[str] | None = None) -> tuple[str, tuple[Record, ...]]:
    words, calls = calls_in(text, among)
    return words, tuple(
        {
            "id": f"call_{hashlib.sha256(f'{name}/{place}'.encode()).hexdigest()[:24]}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for place, call in enumerate(calls)
    )


def as_texts(messages: Any, answers: Mapping[str, str]) -> Any:
    """The messages of a request with calls as text: the words in which an agent made them, where it was one of these.

    Args:
        answers: what was said before, by the name that ids of calls derive from.

    Raises:
        RefusedError: if something stands in place of a call.
    """
    if not isinstance(messages, list):
        return messages
    return [
        {"role": one.get("role"), "content": _text(one, f"messages[{place}]", answers)}
        if isinstance(one, dict) and one.get("tool_calls")
        else one
        for place, one in enumerate(messages)
    ]


def _text(message: Mapping[str, Any], where: str, answers: Mapping[str, str]) -> Any:
    calls, content = _called(message["tool_calls"], where), message.get("content") or ""
    if not isinstance(content, str):  # parts of it; what is no text is refused with the other messages
        return [*content, *({"type": "text", "text": block_of(*call[1:])} for call in calls)]
    for name, text in answers.items():
        words, made = _records(text, name)
        if made and content.strip() in (words, text.strip()) and _called(made, where)[: len(calls)] == calls:
            return text
    return "\n".join([*([content] if content else []), *(block_of(*call[1:]) for call in calls)])


def _called(given: Any, where: str) -> list[tuple[Any, str, Any]]:
    """Ids, names and arguments of calls as clients write them."""
    match given:
        case [*calls] if all(map(_is_call, calls)):
            return [(one.get("id"), one["function"]["name"], _parsed(one["function"]["arguments"])) for one in calls]
    raise RefusedError(
        f"{where}: expected tool_calls, each with a function's name and its arguments as a text, got {given!r:.80}",
        param="messages",
    )


def _is_call(given: Any) -> bool:
    match given:
        case {"function": {"name": str(), "arguments": str()}}:
            return True
    return False


def _parsed(arguments: str) -> Any:
    """What arguments say, however they are spaced; the text itself where it is no JSON, or too deep."""
    try:
        read = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return arguments if _deeper(read, DEEPEST) else read

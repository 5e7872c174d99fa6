"""What stands in the columns of one row: whether it is there, whether it is text, whether its characters are whole."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from madrigal.types import ConfigError, TaskError

_HALF = re.compile("[\ud800-\udfff]")


def cut(row: Mapping[str, Any], columns: Sequence[str], where: str, *, texts: bool = False) -> dict[str, Any]:
    """The columns asked for, of one row.

    Args:
        where: how errors name the row.
        texts: each must be a text, and comes as one; see `text_of`.

    Raises:
        TaskError: naming row and column, if one is missing, empty, no text, or holds half a character.
    """
    values = {}
    for column in columns:
        place = f"{where}: the column {column!r}"
        if column not in row:
            available = ", ".join(map(str, row)) or "none"
            raise TaskError(f"{where}: expected the column {column!r}, found {available}; name one of these")
        if is_empty(row[column]):
            raise TaskError(
                f"{place} is empty; fill it, leave the row out, or leave out all such rows with incomplete=skip"
            )
        check_characters(row[column], place)
        values[column] = text_of(row[column], place) if texts else row[column]
    return values


def is_empty(value: Any) -> bool:
    """Whether there is nothing in a field: no value, not a number, or no character but blanks.

    >>> [is_empty(value) for value in (None, float("nan"), " ", 0, "x")]
    [True, True, True, False, False]
    """
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def text_of(value: Any, where: str) -> str:
    """A field as text: a text itself, a number as it is written, or the one message of a chat (a system message aside).

        >>> text_of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "3 + 4?"}], "row 0")
        '3 + 4?'

    Raises:
        TaskError: if it is none of these, or a chat of several messages.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | Decimal):
        return str(value)
    messages = value if isinstance(value, list | tuple) else []
    chat = [_content(message) for message in messages if not _is_system(message)]
    if len(chat) == 1 and chat[0].strip():
        return chat[0]
    kind = f"a list of {len(value)}" if isinstance(value, list | tuple) else type(value).__name__
    raise TaskError(
        f"{where}: expected a text, or a chat with one message beside the system's, got {kind}: {value!r:.80}; write "
        "the text into a column of its own"
    )


def text_among(data: str | Mapping[str, Any], *names: str) -> str:
    """The one text that new data holds: it itself, or the first of these fields that it has.

    >>> text_among("3 + 4?", "question"), text_among({"id": 1, "question": "3 + 4?"}, "question")
    ('3 + 4?', '3 + 4?')

    Raises:
        ConfigError: if it has none of them.
        TaskError: if there is no text in it.
    """
    if isinstance(data, str):
        data = {names[0]: data}
    name = next((name for name in names if not is_empty(data.get(name))), None)
    if name is None:
        available = ", ".join(map(str, data)) or "nothing"
        expected = " or ".join(dict.fromkeys(names))
        raise ConfigError(f"expected a text, or a mapping with {expected}, got {available}")
    check_characters(data[name], f"the field {name!r}")
    return text_of(data[name], f"the field {name!r}")


def _is_system(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "system"


def _content(message: Any) -> str:
    """The text of a chat message, whose content is a text or a list of parts; "" for anything else."""
    content = message.get("content") if isinstance(message, Mapping) and "role" in message else None
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text") or "") for part in content)
    return content if isinstance(content, str) else ""


def check_characters(value: Any, where: str) -> None:
    """Refuses half a character (a lone surrogate, as cut-off JSON has it), which no tokenizer reads.

    Raises:
        TaskError: showing what stands around it.
    """
    for text in _strings(value):
        if not text.isascii() and (half := _HALF.search(text)):
            around = text[max(0, half.start() - 20) : half.start() + 20]
            raise TaskError(f"{where} holds half a character (a lone surrogate) in {around!r}; mend the text")


def _strings(value: Any) -> Iterator[str]:
    """Every text in a value of JSON, however deep; without recursion, for there are deep ones."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            waiting += part

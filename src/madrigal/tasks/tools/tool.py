"""What a tool is, and how a plain Python function becomes one."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, get_type_hints

from madrigal.types import ConfigError, MadrigalError

KINDS: Mapping[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
LONGEST = 2000  # characters of a result that are shown


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that answers a call with a text.

    Attributes:
        name: how it is called.
        what: what it does, in one line.
        parameters: their kinds by name, in order, as JSON Schema calls them: string, integer, number, boolean.
        run: the answer to arguments by name; whatever it raises is told to who called.
        schema: the parameters as JSON Schema, where more is known of them than their kinds.
    """

    name: str
    what: str
    parameters: Mapping[str, str]
    run: Callable[..., object]
    schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][\w-]*", self.name):
            raise ConfigError(f"tools: expected a name of letters, digits, _ and -, got {self.name!r}")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call, as it is shown; an error where it failed."""

    text: str
    failed: bool = False


def tool_of(function: Callable[..., object]) -> Tool:
    """The tool that a function is: its name, the first line of its docstring, its parameters by their annotations.

    >>> def double(number: int) -> int:
    ...     "Two times a number."
    ...     return 2 * number
    >>> tool_of(double).parameters
    {'number': 'integer'}

    Raises:
        ConfigError: if it has parameters that no call can fill.
    """
    name = getattr(function, "__name__", type(function).__name__)
    hints, kinds = get_type_hints(function), dict[str, str]()
    for each in inspect.signature(function).parameters.values():
        hint = hints.get(each.name, str)
        if hint not in KINDS or each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            raise ConfigError(
                f"tools: {name}({each.name}): expected parameters of type str, int, float or bool, got {each}"
            )
        kinds[each.name] = KINDS[hint]
    return Tool(name, (inspect.getdoc(function) or name).split("\n")[0], kinds, function)


def called(tool: Tool, arguments: Mapping[str, object], seconds: float) -> Result:
    """Calls a tool; what it raises, and that it takes too long, is a result, too.

    A tool that is too late goes on in a thread that nobody waits for.

    Raises:
        MadrigalError: what no other words of an agent would mend, such as a machine without a sandbox.
    """
    answer: Future[object] = Future()

    def work() -> None:
        try:
            answer.set_result(tool.run(**arguments))
        except (Exception, SystemExit) as error:  # noqa: BLE001 (who waits for it tells the agent)
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return Result(_shortened(str(answer.result(seconds))))
    except TimeoutError:
        if not answer.done():
            return Result(f"no answer within {seconds:g} seconds", failed=True)
        return Result("TimeoutError", failed=True)
    except MadrigalError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a tool may be anybody's code)
        words = " ".join(str(error).split())
        return Result(_shortened(f"{type(error).__name__}: {words}" if words else type(error).__name__), failed=True)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

"""Tools in a turn: how calls are written and answered, who plays when, and what the task still sees."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from madrigal.rollouts.play import EpisodeRun, drive, judge_in_turn, play
from madrigal.rollouts.task import check_task
from madrigal.rollouts.task.single import SingleRound
from madrigal.rollouts.topology import Discussion, Parallel, Sequential, TopologyConfig
from madrigal.tasks.tools import kit
from madrigal.tasks.tools.calls import Call, call_in, described
from madrigal.tasks.tools.config import ToolsConfig, lasting_tools, with_tools
from madrigal.tasks.tools.ledger import COUNTER, READER, Ledger, LedgerTask, prices
from madrigal.tasks.tools.tool import Result, Tool, called, tool_of
from madrigal.types import Completion, ConfigError, EngineError, Episode, Example, Point

BOTH = ToolsConfig(("search", "calculator"))


def power(base: int, exponent: float, *, exact: bool = False) -> str:
    """A base to an exponent.

    More about it.
    """
    return str(base**exponent if not exact else int(base**exponent))


POWER = {"power": tool_of(power)}


def test_a_function_is_a_tool_by_its_docstring_and_annotations() -> None:
    tool = POWER["power"]
    assert (tool.name, tool.what) == ("power", "A base to an exponent.")
    assert tool.parameters == {"base": "integer", "exponent": "number", "exact": "boolean"}


@pytest.mark.parametrize("bad", [lambda *words: "", lambda table: "", lambda **more: ""], ids=["*", "list", "**"])
def test_a_function_that_no_call_can_fill_is_refused(bad: Callable[..., str]) -> None:
    bad.__annotations__["table"] = list
    with pytest.raises(ConfigError, match="expected parameters of type str, int, float or bool"):
        tool_of(bad)


LINES = {
    "power: 2 | 0.5 | true": Call("power", {"base": 2, "exponent": 0.5, "exact": True}),
    "I need a power.\npower:3|2|False\n": Call("power", {"base": 3, "exponent": 2.0, "exact": False}),
    "power: 2 | 3": Call("power", {}, "expected power(base, exponent, exact), got 2 arguments"),
    "power: two | 3 | true": Call("power", {}, "base: expected a value of type integer, got 'two'"),
    "power: 2 | 3 | maybe": Call("power", {}, "exact: expected a value of type boolean, got 'maybe'"),
    "The power: 2 | 3 | true": None,
    "power: 2 | 3 | true\nis 8": None,
    "root: 9": None,
    "": None,
}


@pytest.mark.parametrize("text", LINES)
def test_a_call_on_the_last_line(text: str) -> None:
    assert call_in(text, POWER, "line") == LINES[text]


ARGUMENTS = '"arguments": {"base": 2, "exponent": 3, "exact": true}'
BLOCKS = {
    f'<tool_call>\n{{"name": "power", {ARGUMENTS}}}\n</tool_call>': Call(
        "power", {"base": 2, "exponent": 3, "exact": True}
    ),
    f'Well.\n<tool_call>{{"name": "power", {ARGUMENTS}}}': Call("power", {"base": 2, "exponent": 3, "exact": True}),
    '<tool_call>{"name": "power", "arguments": {"base": 2}}</tool_call>': Call(
        "power", {"base": 2}, "expected power(base, exponent, exact), got base"
    ),
    '<tool_call>{"name": "power", "arguments": {"base": true, "exponent": 1, "exact": true}}</tool_call>': Call(
        "power",
        {"base": True, "exponent": 1, "exact": True},
        "base: expected a value of type integer, got True",
    ),
    '<tool_call>{"name": "root", "arguments": {}}</tool_call>': Call("root", {}, "there is no tool 'root', but power"),
    "<tool_call>power(2)</tool_call>": Call("", {}, 'expected {"name": ..., "arguments": {...}} in JSON'),
    "<tool_call>[1]</tool_call>": Call("", {}, 'expected {"name": ..., "arguments": {...}}'),
    f"<tool_call>{'[' * 10**5}": Call("", {}, 'expected {"name": ..., "arguments": {...}} in JSON'),
    "power: 2 | 3 | true": None,
}


@pytest.mark.parametrize("text", BLOCKS, ids=range(len(BLOCKS)))
def test_a_call_in_json(text: str) -> None:
    assert call_in(text, POWER, "json") == BLOCKS[text]


def test_what_is_told_of_tools_can_be_called_as_it_says() -> None:
    assert "power: base | exponent | exact - A base to an exponent." in described(POWER, "line").splitlines()
    shown = described(POWER, "json")
    assert '"exponent": {"type": "number"}' in shown and '"required": ["base", "exponent", "exact"]' in shown


def fail(text: str) -> str:
    raise KeyError(text)


def leave(text: str) -> str:
    raise SystemExit(3)


def sleep(text: str) -> str:
    time.sleep(5)
    return text


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (str.upper, Result("A")),
        (fail, Result("KeyError: 'a'", failed=True)),
        (leave, Result("SystemExit: 3", failed=True)),
        (sleep, Result("no answer within 0.05 seconds", failed=True)),
        (lambda text: text * 9999, Result("a" * 1999 + "…")),
    ],
    ids=["right", "raises", "leaves", "sleeps", "long"],
)
def test_whatever_a_tool_does_is_a_result(run: Any, expected: Result) -> None:
    assert called(Tool("each", "", {"text": "string"}, lambda text: run(text)), {"text": "a"}, 0.05) == expected


def test_what_no_words_would_mend_is_an_error() -> None:
    def broken(text: str) -> str:
        raise EngineError("no sandbox here")

    with pytest.raises(EngineError, match="no sandbox here"):
        called(Tool("each", "", {"text": "string"}, broken), {"text": "a"}, 5.0)


@pytest.mark.parametrize(
    ("expression", "value"),
    [("12 * (7 + 1)", "96"), ("7 / 2", "3.5"), ("-7 // 2", "-4"), ("7 % 4", "3"), ("1/3", "0.3333333333"), ("007", "")],
)
def test_arithmetic(expression: str, value: str) -> None:
    if value:
        assert kit.calculated(expression) == value
    else:
        with pytest.raises(ValueError, match="expected numbers with"):
            kit.calculated(expression)


HOSTILE = ["9**9**9", "__import__('os')", "10**15 * 10", "1/0", "(" * 9999, "1 if 1 else 2", "True", "1e999", "'a' * 9"]


@pytest.mark.parametrize("expression", HOSTILE)
def test_no_more_than_arithmetic(expression: str) -> None:
    began = time.monotonic()
    result = called(kit.calculator(), {"expression": expression}, 5.0)
    assert result.failed and time.monotonic() - began < 2


def test_search_prefers_rare_words() -> None:
    find = kit.search(["A pear costs 23.", "A plum costs 17.", "The plum is ripe."]).run
    assert find(query="plum costs") == "A plum costs 17."
    assert find(query="PEAR?") == "A pear costs 23."
    assert find(query="gold") == "nothing found"


def test_programs_run_in_the_sandbox() -> None:
    with ExitStack() as stack:
        tool = kit.python(stack, 2.0)
        assert called(tool, {"source": "for n in range(3): print(n * n)"}, 20.0) == Result("0\n1\n4")
        assert called(tool, {"source": "x = 1"}, 20.0) == Result("nothing was printed")
        failed = called(tool, {"source": "print(open('/etc/passwd').read())"}, 20.0)
        assert failed.failed and "root:" not in failed.text
        assert "ZeroDivisionError" in called(tool, {"source": "1 / 0"}, 20.0).text
        assert "time" in called(tool, {"source": "while True: pass"}, 60.0).text


def answered(task: Any, topology: TopologyConfig, example: Example, words: dict[str, list[str]]) -> Episode[Any]:
    """An example, answered with these words in turn, all of which are asked for."""
    left = {agent: iter(each) for agent, each in words.items()}
    runs = [EpisodeRun(play(task, topology, Point(example.id, task.reset(example))), ("key",))]
    (episode,) = drive(runs, lambda asked: [Completion(next(left[one.agent])) for one in asked], judge_in_turn(task))
    assert all(next(each, None) is None for each in left.values())
    return episode


def played(words: dict[str, list[str]], config: ToolsConfig = BOTH) -> Episode[Any]:
    """The first test question."""
    with with_tools(LedgerTask(Ledger()), config, Parallel()) as task:
        return answered(task, Parallel(), task.examples("test")[0], words)


def test_a_team_that_looks_up_and_works_out_is_right() -> None:
    data = LedgerTask(Ledger()).examples("test")[0].data
    price, paid = data["price"], data["price"] * data["number"]
    episode = played(
        {
            READER: [f"search: {data['seller']} {data['good']}", str(price)],
            COUNTER: [f"calculator: {data['number']} * {price}", str(paid)],
        }
    )
    assert [turn.agent for turn in episode.turns] == [READER, READER, COUNTER, COUNTER]
    assert [step.rewards[READER] for step in episode.steps] == [0.0, 0.0, 0.0, 1.0]
    second, last = episode.turns[1].prompt, episode.turns[3].prompt
    assert [message.role for message in second] == ["user", "assistant", "user"]
    note = f"{data['seller']} takes {price} for a {data['good']}."
    assert second[2].content == f"search says: {note}\nNo call is left: answer now."
    assert f"says that one costs: {price}" in last[0].content and f"calculator says: {paid}" in last[2].content
    assert episode.steps[0].details == {"calls": {READER: {"tool": "search", "result": note, "failed": False}}}
    assert episode.steps[1].metrics == {"tools/calls": 1.0, "tools/failed": 0.0}
    assert episode.steps[-1].metrics["tools/calls"] == 2.0


def test_a_call_beyond_the_last_is_an_answer() -> None:
    episode = played({READER: ["search: pear", "search: pear"], COUNTER: ["1"]})
    assert episode.steps[-1].rewards == {READER: 0.0, COUNTER: 0.0}
    assert "says that one costs: search: pear" in episode.turns[2].prompt[0].content


def test_a_call_that_cannot_be_made_is_told_and_counted() -> None:
    episode = played({READER: ["1"], COUNTER: ["calculator: seven", "1"]})
    assert episode.turns[2].prompt[2].content.startswith("calculator says: error: ValueError: expected numbers with")
    assert episode.steps[-1].metrics["tools/failed"] == 1.0


def test_only_those_named_may_call() -> None:
    words = {READER: ["search: pear"], COUNTER: ["calculator: 1 + 1", "2"]}
    episode = played(words, ToolsConfig(BOTH.names, agents=(COUNTER,)))
    assert "tool" not in episode.turns[0].prompt[0].content
    assert [turn.agent for turn in episode.turns] == [READER, COUNTER, COUNTER]


def test_tools_of_a_loaded_team_stay_open_as_long_as_it_is_used() -> None:
    task = lasting_tools(LedgerTask(Ledger()), ToolsConfig(("python",)), Parallel())
    tool = task.tools["python"]  # type: ignore[attr-defined]
    gc.collect()
    assert called(tool, {"source": "print(3)"}, 20.0) == Result("3")
    del task
    gc.collect()
    with pytest.raises(EngineError, match="this one was closed"):
        called(tool, {"source": "print(3)"}, 20.0)


def test_without_tools_the_task_is_as_it_was() -> None:
    with with_tools(task := LedgerTask(Ledger()), ToolsConfig(), Parallel()) as same:
        assert same is task


@pytest.mark.parametrize("config", [BOTH, ToolsConfig(BOTH.names, calls=3, style="json")])
def test_the_contract_holds(config: ToolsConfig) -> None:
    with with_tools(LedgerTask(Ledger()), config, Parallel()) as task:
        check_task(task)
        check_task(task, answer="calculator: 1 + 1")
        check_task(task, answer='<tool_call>{"name": "calculator", "arguments": {"expression": "1"}}</tool_call>')


def test_no_price_of_the_tests_is_asked_for_in_training() -> None:
    task = LedgerTask(Ledger())
    train, test = ({(e.data["seller"], e.data["good"]) for e in task.examples(split)} for split in ("train", "test"))  # type: ignore[arg-type]
    assert not train & test and train | test <= set(prices())
    assert {seller for seller, _ in test} <= {seller for seller, _ in train}


def test_novices_play_their_demonstrations() -> None:
    with with_tools(LedgerTask(Ledger()), BOTH, Parallel()) as task:
        example, given = task.examples("train")[0], task.demonstrations()  # type: ignore[attr-defined]
        words = {agent: [text for text in texts if text != "-"] for agent, texts in given[example.id].items()}
        episode = answered(task, Parallel(), example, words)
    assert episode.steps[-1].metrics["tools/failed"] == 0.0 and len(episode.turns) == 4


REFUSED: dict[str, tuple[dict[str, Any], TopologyConfig]] = {
    "unknown tool 'calculater': did you mean calculator": ({"names": ("calculater",)}, Parallel()),
    "speak at once or one by one": ({"names": ("calculator",)}, Discussion(2)),
    "tools.agents: ann is no agent of ledger": ({"names": ("calculator",), "agents": ("ann",)}, Parallel()),
    "two are called search": ({"names": ("search", "calculator", "search")}, Parallel()),
    "could not be imported|there is no file|no such file|expected a file": ({"path": "nowhere.py:tools"}, Parallel()),
}


@pytest.mark.parametrize("words", REFUSED)
def test_settings_that_cannot_work_are_refused(words: str) -> None:
    settings, topology = REFUSED[words]
    with pytest.raises(ConfigError, match=words), with_tools(LedgerTask(Ledger()), ToolsConfig(**settings), topology):
        pass


@pytest.mark.parametrize("settings", [{"calls": 0}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_numbers_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"tools.{next(iter(settings))}: expected"):
        ToolsConfig(**settings)


def pair(words: dict[str, list[str]], config: ToolsConfig) -> Episode[Any]:
    """Two agents that speak one by one; the second hears the first."""
    task = SingleRound(
        name="pair",
        agents=("ann", "bob"),
        train=(),
        test=(Example("one", {"n": 6}),),
        prompt=lambda example, agent: f"{agent}: {example.data['n']}?",
        reward=lambda example, said: float(said == {"ann": "36", "bob": "37"}),
    )
    topology = Sequential(("bob", "ann"))
    with with_tools(task, config, topology) as tooled:
        return answered(tooled, topology, task.test[0], words)


def test_who_speaks_second_hears_the_answer_and_not_the_calls() -> None:
    both = ToolsConfig(("calculator",), calls=2)
    words = {"bob": ["calculator: 6 * 6", "calculator: 36 + 1", "37"], "ann": ["calculator: 6 * 6", "36"]}
    episode = pair(words, both)
    assert [turn.agent for turn in episode.turns] == ["bob", "bob", "bob", "ann", "ann"]
    assert episode.steps[-1].rewards["ann"] == 1.0 and episode.steps[-1].metrics["tools/calls"] == 3.0
    heard = episode.turns[3].prompt[0].content
    assert "bob said: 37" in heard and "6 * 6" not in heard
    assert "bob" in episode.turns[4].prompt[0].content, "heard again after the call"
    alone = pair({**words, "bob": ["37"]}, ToolsConfig(("calculator",), agents=("ann",)))
    assert [turn.agent for turn in alone.turns] == ["bob", "ann", "ann"]

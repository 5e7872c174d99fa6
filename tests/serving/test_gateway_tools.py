"""Function tools through the gateway: OpenAI's own client offers them, reads calls, and hands back what they said."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from fakes.elsewhere import TRAIN, elsewhere, lost_of
from fakes.play import judge_of
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.serving.gateway import gateway_app
from madrigal.settings import Sampling
from madrigal.tasks.tools.calls import block_of
from madrigal.types import Completion, Episode, Message, Point

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}
QUESTION = {"role": "user", "content": "2 + 2?"}
TWICE = "Well. " + "".join(f'<tool_call>{{"name":"add","arguments":{{"a":{a}}}}}</tool_call>' for a in (2, 3))


def answered(rollout: Callable[[Any], None], *said: str) -> Episode[Any]:
    """What is recorded of a program that is answered so, in this order."""
    errors: list[BaseException] = []

    def play(example: Any, client: Any) -> float:
        http: Any = TestClient(app, base_url="http://127.0.0.1")
        try:
            with openai.OpenAI(base_url="http://127.0.0.1/v1", api_key=client.api_key, http_client=http) as api:
                rollout(api.chat.completions.create)
        except BaseException as error:
            errors.append(error)
            raise
        return 1.0

    words = iter(said)
    task = elsewhere(play)
    app = gateway_app(task, Sampling(max_new_tokens=8))
    origins = [Point(TRAIN[0].id, task.reset(TRAIN[0]))]

    def speak(wanted: Any) -> list[Completion]:
        return [Completion(next(words), (1, 2), (3,), (-0.5,)) for _ in wanted]

    ((group,)) = rollout_groups(task, Parallel(), origins, Branching(1), speak, judge_of(task), (7,))
    assert lost_of(task) == [], errors
    return group.episodes[0]


def test_calls_are_read_and_stand_in_later_prompts_as_they_were_said() -> None:
    def rollout(ask: Any) -> None:
        first = ask(model="left", messages=[QUESTION], tools=[ADD]).choices[0]
        assert (first.finish_reason, first.message.content) == ("tool_calls", "Well.")
        assert [(call.function.name, json.loads(call.function.arguments)) for call in first.message.tool_calls] == [
            ("add", {"a": 2}),
            ("add", {"a": 3}),
        ]
        results = [{"role": "tool", "tool_call_id": call.id, "content": "4"} for call in first.message.tool_calls]
        assert len({call.id for call in first.message.tool_calls}) == 2
        second = ask(model="left", messages=[QUESTION, first.message, *results], tools=[ADD]).choices[0]
        assert (second.finish_reason, second.message.content, second.message.tool_calls) == ("stop", "It is 4.", None)

    before, after = answered(rollout, TWICE, "It is 4.").turns
    tools, *asked = before.prompt
    assert (tools.role, json.loads(tools.content)[0]["function"]["name"]) == ("tools", "add")
    assert asked == [Message("user", "2 + 2?")]
    assert after.prompt == (*before.prompt, Message("assistant", TWICE), Message("tool", "4"), Message("tool", "4"))


def test_calls_that_somebody_else_made_are_spelled() -> None:
    """Of another session, or changed on the way."""

    def rollout(ask: Any) -> None:
        call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 7}'}}
        made = ask(model="left", messages=[QUESTION], tools=[ADD]).choices[0].message.to_dict()
        made["tool_calls"][0]["function"]["arguments"] = '{"a": 9}'
        for before in ({"role": "assistant", "content": None, "tool_calls": [call]}, made):
            ask(model="left", messages=[QUESTION, before, {"role": "tool", "tool_call_id": "call_1", "content": "4"}])

    turns = answered(rollout, block_of("add", {"a": 2}), "4", "4").turns
    assert [turn.prompt[1].content for turn in turns[1:]] == [block_of("add", {"a": 7}), block_of("add", {"a": 9})]


@pytest.mark.parametrize(
    "said",
    [
        "<tool_call>add 2</tool_call>",
        block_of("subtract", {"a": 2}),
        '<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"a": 1e999}}</tool_call>',
        block_of("add", "2"),
        "add: 2",
    ],
)
def test_what_is_no_call_is_text(said: str) -> None:
    def rollout(ask: Any) -> None:
        choice = ask(model="left", messages=[QUESTION], tools=[ADD]).choices[0]
        assert (choice.finish_reason, choice.message.content, choice.message.tool_calls) == ("stop", said, None)

    answered(rollout, said)


def test_who_offers_nothing_or_reads_one_call_gets_no_more() -> None:
    def rollout(ask: Any) -> None:
        for settings in ({}, {"tools": [ADD], "tool_choice": "none"}):
            choice = ask(model="left", messages=[QUESTION], **settings).choices[0]
            assert (choice.finish_reason, choice.message.content) == ("stop", TWICE)
        one = ask(model="left", messages=[QUESTION], tools=[ADD], parallel_tool_calls=False).choices[0].message
        assert [call.function.arguments for call in one.tool_calls] == ['{"a": 2}']
        ask(model="left", messages=[QUESTION, one, {"role": "tool", "tool_call_id": "x", "content": "4"}])

    *_, one, last = answered(rollout, TWICE, TWICE, TWICE, "4").turns
    assert one.prompt[0].role == "tools" and last.prompt[1] == Message("assistant", TWICE)


def test_streams_hold_calls() -> None:
    def rollout(ask: Any) -> None:
        chunks = [chunk.choices[0] for chunk in ask(model="left", messages=[QUESTION], tools=[ADD], stream=True)]
        assert "".join(chunk.delta.content or "" for chunk in chunks) == "Well."
        calls = [call for chunk in chunks for call in chunk.delta.tool_calls or ()]
        assert [(call.index, call.function.name, call.function.arguments) for call in calls] == [
            (0, "add", '{"a": 2}'),
            (1, "add", '{"a": 3}'),
        ]
        assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["tool_calls"]

    answered(rollout, TWICE)


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"tools": {"name": "add"}}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "add two"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "add", "parameters": "a"}}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "add", "parameters": nested(101)}}]}, "tools"),
        ({"tools": [ADD], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "add"}}}, "tool_choice"),
        ({"messages": [{"role": "assistant", "tool_calls": ["add"]}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": 3, "tool_calls": [{"function": {}}]}]}, "messages"),
        ({"messages": [{"role": ["tool"], "content": "4"}]}, "messages"),
        ({"functions": [ADD["function"]]}, "functions"),
    ],
)
def test_what_cannot_be_offered_is_refused(changed: dict[str, Any], param: str) -> None:
    def rollout(ask: Any) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            ask(model="left", messages=[QUESTION], extra_body=changed)
        assert refused.value.param == param, refused.value

    assert answered(rollout).turns == ()

"""Sessions over HTTP: clients that exist, frameworks that ask by them, and what a client may not do."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from fakes.elsewhere import AGENTS, ROWS, TRAIN, elsewhere
from fakes.play import Voice, judge_of
from fakes.tiny import build_model
from madrigal import cli, load_team, train_rollouts
from madrigal.commands import gateway
from madrigal.policies.outside import scripted
from madrigal.rollouts.branching import Branching
from madrigal.rollouts.sessions import SessionError
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups
from madrigal.runs.log import read_lines
from madrigal.serving.gateway import gateway_app
from madrigal.serving.web import listen, url_of
from madrigal.settings import Sampling
from madrigal.tasks.elsewhere import ElsewhereTask
from madrigal.tasks.tools.calls import block_of
from madrigal.types import Completion, Group, Point

ASKED: dict[str, Any] = {"model": "left", "messages": [{"role": "user", "content": "hello"}]}
SPEAK = Voice()
SAMPLING = Sampling(max_new_tokens=8)


def voice(wanted: Any) -> list[Completion]:
    return [Completion(one.text, (1, 2), (3,), (-0.5,)) for one in SPEAK(wanted)]


@contextmanager
def playing(task: ElsewhereTask, width: int = 2) -> Iterator[list[Group[Any]]]:
    """Play of two examples in a thread; in the end, its groups."""
    origins = [Point(example.id, task.reset(example)) for example in TRAIN]
    groups: list[Group[Any]] = []

    def play() -> None:
        with contextlib.suppress(SessionError):  # every session was still open when the test was over
            groups.extend(rollout_groups(task, Parallel(), origins, Branching(width), voice, judge_of(task), (7,)))

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        yield groups
    finally:
        task.desk.close("the test is over")
        thread.join(10)


def take(client: TestClient, **wanted: Any) -> dict[str, Any]:
    for _ in range(500):
        told = client.post("/v1/sessions", json=wanted)
        if told.status_code == 200:
            return told.json()
    raise AssertionError(told.text)


@contextmanager
def inside(task: ElsewhereTask, **settings: Any) -> Iterator[TestClient]:
    yield TestClient(gateway_app(task, SAMPLING, **settings), base_url="http://127.0.0.1")


def bearer(name: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}", **more}


def code_of(reply: Any) -> tuple[int, str]:
    return reply.status_code, reply.json().get("error", reply.json())["code"]


def test_programs_take_sessions_play_them_and_say_what_they_were_worth() -> None:
    task = elsewhere(None, gather=0.05)
    with inside(task) as client, playing(task) as groups:
        first = take(client)
        told = client.get("/v1/examples/next").json()
        assert not told["done"] and told["next"]["id"] in ("a", "b")
        others = [take(client, example=name) for name in ("a", "b", "b")]
        assert first["example"] == {"id": "a", "data": ROWS["train"][0]} and not first["evaluating"]
        assert code_of(client.post("/v1/sessions", json={})) == (409, "none_free")
        assert code_of(client.post("/v1/sessions", json={"example": "z"})) == (409, "none_free")
        ways = [
            ("/v1", bearer(first["id"])),
            ("/v1", {"X-Madrigal-Session": others[0]["id"], **bearer("none")}),
            (others[1]["base_path"], bearer("none")),
            (others[2]["base_path"], {}),
        ]
        for path, headers in ways:
            said = client.post(f"{path}/chat/completions", json=ASKED, headers=headers).json()
            assert said["choices"][0]["message"]["content"].isdecimal()
            assert said["usage"] == {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
        for n, session in enumerate([first, *others]):
            paid = client.post(f"/v1/sessions/{session['id']}/reward", json={"reward": n / 4, "metrics": {"n": n}})
            assert paid.json() == {"id": session["id"], "calls": 1}
    steps = [episode.steps[0] for group in groups for episode in group.episodes]
    assert [step.rewards["right"] for step in steps] == [0.0, 0.25, 0.5, 0.75]
    assert [step.metrics["n"] for step in steps] == [0.0, 1.0, 2.0, 3.0]


def test_what_a_client_may_not_ask() -> None:
    task = elsewhere(None, gather=0.05)
    with inside(task) as client, playing(task):
        session = take(client)
        me, ask, pay = bearer(session["id"]), "/v1/chat/completions", f"/v1/sessions/{session['id']}/reward"
        assert code_of(client.post(ask, json=ASKED, headers=bearer("nobody"))) == (404, "session_not_found")
        assert code_of(client.post(ask, json=ASKED | {"model": "up"}, headers=me)) == (404, "model_not_found")
        for field, value in {"temperature": 0.5, "top_p": 0.5, "n": 2, "stop": "x", "seed": 3, "max_tokens": 4}.items():
            refused = client.post(ask, json=ASKED | {field: value}, headers=me).json()["error"]
            assert (refused["param"], refused["code"]) == (field, "unsupported_parameter")
        harmless = {"temperature": 1, "top_p": 1.0, "max_tokens": 100, "n": 1}
        assert client.post(ask, json=ASKED | harmless, headers=me).status_code == 200
        assert code_of(client.get("/sessions/nobody/v1/models")) == (404, "session_not_found")
        words = {"reward": 1.0, "metrics": {"words": "many"}}
        for body in ({}, {"reward": "much"}, {"reward": {"left": 1.0}}, {"reward": -1e308}, {"reward": 10**400}, words):
            assert client.post(pay, json=body).json()["error"]["param"] == "reward"
        nan = client.post(pay, content='{"reward": NaN}', headers={"Content-Type": "application/json"})
        assert nan.status_code == 400
        assert client.post(pay, json={"reward": 1}).status_code == 200
        for late in (client.post(pay, json={"reward": 1}), client.post(ask, json=ASKED, headers=me)):
            assert code_of(late) == (409, "session_over") and late.headers["X-Should-Retry"] == "false"


def test_a_key_is_asked_of_who_takes_sessions() -> None:
    task = elsewhere(None, gather=0.05)
    with inside(task, key="secret") as client, playing(task):
        assert code_of(client.post("/v1/sessions", json={})) == (401, "invalid_api_key")
        assert code_of(client.get("/v1/examples/next", headers=bearer("guess"))) == (401, "invalid_api_key")
        while (told := client.post("/v1/sessions", json={}, headers=bearer("secret"))).status_code == 409:
            pass
        asked = client.post("/v1/chat/completions", json=ASKED, headers=bearer(told.json()["id"]))
        assert asked.status_code == 200


def test_openais_client_streams_and_asks_again() -> None:
    """As its retries do: the same request, with their number in a header, gets the answer that there is."""

    def rollout(example: Any, client: Any) -> float:
        http = TestClient(app, base_url="http://127.0.0.1")
        me = bearer(client.api_key)
        once = http.post("/v1/chat/completions", json=ASKED, headers=me).json()["choices"]
        again = http.post("/v1/chat/completions", json=ASKED, headers={**me, "x-stainless-retry-count": "1"})
        assert again.json()["choices"] == once
        streamed = http.post("/v1/chat/completions", json=ASKED | {"stream": True}, headers=me).text
        assert streamed.count('"finish_reason": "stop"') == 1 and streamed.endswith("data: [DONE]\n\n")
        return 1.0

    task = elsewhere(rollout)
    app = gateway_app(task, SAMPLING)
    with playing(task) as groups:
        pass_by = threading.Event()
        while len(groups) < 2:
            pass_by.wait(0.01)
    assert [len(episode.turns) for group in groups for episode in group.episodes] == [2] * 4


# Frameworks, on a tiny model


SMALL: dict[str, Any] = {
    "steps": 2,
    "prompts": 1,
    "quiet": True,
    "algorithm": {"width": 2},
    "evaluation": {"examples": 1},
    "sampling": {"max_new_tokens": 8},
    "optimizer": {"lr": 1e-3},
    "records": {"transcripts": 2},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    model = build_model(tmp_path_factory.mktemp("model"))
    return SMALL | {"agents": AGENTS, "team": {"policy": {"model": str(model), "lora": {"rank": 0}}}}


def turns_in(folder: Path) -> list[Any]:
    return [turn for episode in read_lines(folder / "episodes.jsonl") for turn in episode["turns"]]


def test_two_nodes_of_langgraph_learn(settings: dict[str, Any], tmp_path: Path) -> None:
    graphs = pytest.importorskip("langgraph.graph")

    def rollout(example: Any, client: Any) -> float:
        with openai.OpenAI(base_url=client.base_url, api_key=client.api_key) as api:

            def node(seat: str) -> Any:
                def speak(state: dict[str, str]) -> dict[str, str]:
                    asked = [
                        {"role": "system", "content": f"You are {seat}."},
                        {"role": "user", "content": " ".join([example.data["n"], *state.values()])},
                    ]
                    said = api.chat.completions.create(model=seat, messages=asked)  # type: ignore[call-overload]
                    return {seat: said.choices[0].message.content}

                return speak

            graph = graphs.StateGraph(dict)
            for seat in AGENTS:
                graph.add_node(seat, node(seat))
            graph.add_edge(graphs.START, "left")
            graph.add_edge("left", "right")
            graph.add_edge("right", graphs.END)
            state = graph.compile().invoke({})
        return float(len(state["right"]) % 2)

    result = train_rollouts(rollout, ROWS, tmp_path / "run", **settings)
    assert len(result.curve) == 2 and list(result.evaluations) == ["before", "after"]
    assert not (result.folder / "lost.jsonl").exists()
    assert [turn["agent"] for turn in turns_in(result.folder)[:2]] == ["left", "right"]


def test_two_agents_of_openais_sdk_learn(settings: dict[str, Any], tmp_path: Path) -> None:
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)

    async def rollout(example: Any, client: Any) -> float:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key) as api:
            said = ""
            for seat in AGENTS:
                model = agents.OpenAIChatCompletionsModel(model=seat, openai_client=api)
                agent = agents.Agent(name=seat, instructions=f"You are {seat}.", model=model)
                said = (await agents.Runner.run(agent, f"{example.data['n']} {said}")).final_output
        return float(len(said) % 2)

    result = train_rollouts(rollout, ROWS, tmp_path / "run", **settings | {"steps": 1})
    assert len(result.curve) == 1 and not (result.folder / "lost.jsonl").exists()


def caller(messages: Any, seed: int) -> str:
    """Calls `add`, and says what it said."""
    return messages[-1].content if messages[-1].content.startswith("<tool_response>") else block_of("add", {"a": 3})


def test_tools_of_langchain_are_called_in_a_graph(settings: dict[str, Any], tmp_path: Path) -> None:
    """One seat calls, in streams too; the other learns from prompts in which what the tool said stands as it was."""
    graphs, ready = pytest.importorskip("langgraph.graph"), pytest.importorskip("langgraph.prebuilt")
    chains, tools = pytest.importorskip("langchain_openai"), pytest.importorskip("langchain_core.tools")

    @tools.tool  # type: ignore[untyped-decorator]
    def add(a: int) -> int:
        """Adds four."""
        return a + 4

    def rollout(example: Any, client: Any) -> float:
        def model(seat: str, **more: Any) -> Any:
            return chains.ChatOpenAI(base_url=client.base_url, api_key=client.api_key, model=seat, **more)

        left, right = model("left", streaming=client.evaluating).bind_tools([add]), model("right")
        graph = graphs.StateGraph(graphs.MessagesState)
        graph.add_node("left", lambda state: {"messages": [left.invoke(state["messages"])]})
        graph.add_node("tools", ready.ToolNode([add]))
        graph.add_node("right", lambda state: {"messages": [right.invoke(state["messages"])]})
        graph.add_edge(graphs.START, "left")
        graph.add_conditional_edges("left", ready.tools_condition, {"tools": "tools", graphs.END: "right"})
        graph.add_edge("tools", "left")
        graph.add_edge("right", graphs.END)
        said = graph.compile().invoke({"messages": [("user", f"{example.data['n']} + 4?")]})["messages"]
        assert [type(one).__name__ for one in said[1:4]] == ["AIMessage", "ToolMessage", "AIMessage"]
        assert said[2].content == "7" and said[3].content == "<tool_response>\n7\n</tool_response>"
        return float(len(said[-1].content) % 2)

    team = settings["team"] | {"seats": {"left": {"script": scripted(caller)}}}
    result = train_rollouts(rollout, ROWS, tmp_path / "run", **settings | {"steps": 1, "team": team})
    assert len(result.curve) == 1 and not (result.folder / "lost.jsonl").exists()
    call, _, last = turns_in(result.folder)[:3]
    assert [message["role"] for message in last["prompt"]] == ["user", "assistant", "tool", "assistant"]
    assert last["prompt"][1]["content"] == call["text"] == block_of("add", {"a": 3})


def test_function_tools_of_openais_sdk_are_called(settings: dict[str, Any], tmp_path: Path) -> None:
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)

    @agents.function_tool  # type: ignore[untyped-decorator]
    def add(a: int) -> int:
        """Adds four."""
        return a + 4

    async def rollout(example: Any, client: Any) -> float:
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key) as api:
            said = f"{example.data['n']} + 4?"
            for seat in AGENTS:
                model = agents.OpenAIChatCompletionsModel(model=seat, openai_client=api)
                agent = agents.Agent(
                    name=seat, instructions=f"You are {seat}.", model=model, tools=[add][seat == "right" :]
                )
                said = (await agents.Runner.run(agent, said)).final_output
                assert seat == "right" or said == "<tool_response>\n7\n</tool_response>"
        return float(len(said) % 2)

    team = settings["team"] | {"seats": {"left": {"script": scripted(caller)}}}
    result = train_rollouts(rollout, ROWS, tmp_path / "run", **settings | {"steps": 1, "team": team})
    assert len(result.curve) == 1 and not (result.folder / "lost.jsonl").exists()
    assert [turn["agent"] for turn in turns_in(result.folder)[:3]] == ["left", "left", "right"]


def test_the_command_hands_out_sessions_until_the_run_is_over(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gateway, "LINGER", 0.5)
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for rows in ROWS.values() for row in rows))
    with listen(0, "test") as free:
        address = url_of(free)
    played: list[bool] = []

    def post(path: str, body: Any, headers: Any = None) -> Any:
        data, kind = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
        with urllib.request.urlopen(urllib.request.Request(address + path, data, kind), timeout=20) as reply:
            return json.load(reply)

    def program() -> None:
        while True:
            try:
                session = post("/v1/sessions", {})
            except urllib.error.HTTPError as error:
                if json.load(error)["error"]["code"] == "done":
                    return
            except urllib.error.URLError:  # it has not begun, or is over
                if played:
                    return
            else:
                for seat in AGENTS:
                    post(f"{session['base_path']}/chat/completions", ASKED | {"model": seat})
                post(f"/v1/sessions/{session['id']}/reward", {"reward": 0.5})
                played.append(session["evaluating"])
                continue
            time.sleep(0.02)

    thread = threading.Thread(target=program, daemon=True)
    thread.start()
    model = settings["team"]["policy"]["model"]
    words = f"--agents left,right --examples {tmp_path / 'rows.jsonl'} --sessions 2 --runs {tmp_path} --quiet --steps 1"
    words += f" --port {re.sub('.*:', '', address)} --prompts 1 --team.policy.model {model} --team.policy.lora.rank 0"
    words += " --sampling.max-new-tokens 8 --evaluation.examples 1 --optimizer.lr 1e-3 --task.gather 0.05"
    assert cli.run(["gateway", *words.split()]) == 0, capsys.readouterr().err
    thread.join(10)
    assert sorted(played) == [False, False, True, True]
    assert load_team(tmp_path / "gateway").agents == AGENTS


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "name the seats and the examples: --agents planner,writer --examples FILE.jsonl"),
        ("--agents a,b --examples rows.jsonl --algorithm.tree", "a session is played by a program, once and from"),
        ("--agents a,b --examples nothing.jsonl", "nothing.jsonl: expected a file, found none"),
        ("--agents a,b --examples rows.jsonl --reward.share difference", "the program says what a session is worth"),
        ("--agents a,b --examples rows.jsonl --tools.names calculator", "tools are the program's own"),
        ("--agents a,a --examples rows.jsonl", "agents must be distinct"),
        ("--agents a,b --examples rows.jsonl --task.seconds 0", "task.seconds: expected a positive number"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    words: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    assert cli.run(["gateway", *words.split(), "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line and not (tmp_path / "runs").exists()

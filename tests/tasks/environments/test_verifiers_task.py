"""Environments of verifiers as tasks: rows, prompts, rewards and turns, against a rollout of the package's own."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

pytest.importorskip("verifiers", reason="verifiers is not installed", exc_type=ImportError)

from madrigal.recipes.environments import environment_experiment
from madrigal.rollouts.task import check_task
from madrigal.tasks.catalog import open_task
from madrigal.tasks.environments.replay import Replayed
from madrigal.tasks.environments.verifiers import Verifiers, open_verifiers
from madrigal.types import Completion, ConfigError, MadrigalError, Message, RewardError, Step, TaskError, Turn

NAME = "fakes.reckoning"


def opened(arguments: str = "{}", **settings: Any) -> Replayed:
    return open_verifiers(Verifiers(NAME, arguments, **settings))


def played(task: Replayed, answers: list[str], row: int = 3) -> list[Step]:
    state, steps = task.reset(task.examples("train")[row]), list[Step]()
    for answer in answers:
        steps.append(task.step(state, dict.fromkeys(task.acting(state), answer)))
        state = steps[-1].state
    return steps


def test_rows_are_examples_and_the_last_fifth_is_held_out() -> None:
    task = opened()
    assert [example.id for example in task.examples("train")] == [f"train-{n}" for n in range(8)]
    assert [example.id for example in task.examples("test")] == ["test-8", "test-9"]
    own = opened('{"held_out": 3}')
    assert [len(own.examples(split)) for split in ("train", "test", "validation")] == [10, 3, 0]
    assert own.examples("test")[0].data["answer"] == "200"
    assert len(opened(limit=4).examples("train")) == 4


def test_one_turn_is_asked_and_judged_by_the_rubric() -> None:
    task = opened()
    assert task.horizon == 1 and task.agents == ("solver",)
    state = task.reset(task.examples("train")[3])
    assert task.observe(state, "solver", ()) == (Message("system", "Reckon."), Message("user", "3+3?"))
    right, wrong = (task.step(state, {"solver": answer}) for answer in ("6", "7"))
    assert (right.rewards, wrong.rewards) == ({"solver": 1.0}, {"solver": 0.0})
    assert right.ending == "solved" and right.metrics["words"] == 1.0 and right.metrics["return_percent"] == 100.0


def test_turns_are_those_of_the_packages_own_rollout() -> None:
    import verifiers

    task = opened('{"turns": 3}')
    assert task.horizon == 3
    steps = played(task, ["5", "7", "6"])
    assert [step.ending for step in steps] == ["", "", "solved"]
    shown = [message.content for message in steps[1].state.scene.shown["solver"]]
    assert shown == ["Reckon.", "3+3?", "5", "5 is wrong, 1 so far.", "7", "7 is wrong, 2 so far."]

    class Scripted(type(client_of(task))):  # type: ignore[misc]
        async def get_response(self, prompt: Any, *given: Any, **named: Any) -> Any:
            from verifiers.types import Response, ResponseMessage

            message = ResponseMessage(content=next(said), finish_reason="stop", is_truncated=False)
            return Response(id="", created=0, model="", message=message)

    env, said = verifiers.load_environment(NAME, turns=3), iter(["5", "7", "6"])
    output = asyncio.run(env.run_rollout(dict(task.examples("train")[3].data), Scripted(None), "m", {}))
    assert steps[-1].rewards == {"solver": output["reward"]}
    assert {name: steps[-1].metrics[name] for name in output["metrics"]} == output["metrics"]


def client_of(task: Replayed) -> Any:
    from madrigal.tasks.environments.verifiers import client_for

    return client_for(task.make())  # type: ignore[arg-type]


def test_any_prefix_can_start_again() -> None:
    task = opened('{"turns": 4}')
    steps = played(task, ["5", "7", "8", "6"])
    for n, step in enumerate(steps[:-1]):
        task.pool.close()
        assert task.step(step.state, dict(steps[n + 1].state.actions[-1])) == steps[n + 1]


def test_episodes_may_be_interleaved_and_a_loop_may_be_running() -> None:
    task = opened('{"turns": 3}')

    async def notebook() -> list[float]:
        states = [task.reset(task.examples("train")[n]) for n in (2, 3)]
        states = [task.step(state, {"solver": "0"}).state for state in states]
        return [task.step(state, {"solver": "6"}).rewards["solver"] for state in states]

    assert asyncio.run(notebook()) == [0.0, 1.0]


def test_an_episode_cut_by_the_horizon_is_not_paid() -> None:
    step = played(opened('{"turns": 3}', horizon=2), ["6 ", "7"])[-1]
    assert step.ending == "horizon" and step.rewards == {"solver": 0.0} and step.metrics["cut"] == 100.0


def test_of_several_agents_the_last_ones_words_are_the_answer() -> None:
    task = opened(agents=("helper", "main"))
    state = task.reset(task.examples("train")[3])
    heard = (Turn("helper", (), Completion("It is even.")),)
    assert task.acting(state) == ("helper", "main")
    assert task.observe(state, "helper", ())[-1].content == "3+3?\n\nYou are helper. Help main, who gives the answer."
    assert task.observe(state, "main", heard)[-1].content == "3+3?\n\nhelper said: It is even."
    assert task.step(state, {"helper": "7", "main": "6"}).rewards == {"helper": 1.0, "main": 1.0}


def test_a_team_may_be_asked_something_new() -> None:
    with open_task(Verifiers(NAME)) as task:
        state = task.ask("17+4?")  # type: ignore[attr-defined]
        assert task.observe(state, "solver", ()) == (Message("system", "Reckon."), Message("user", "17+4?"))


def test_signals_stay_with_who_had_them() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    opened()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_environment_keeps_the_contract() -> None:
    run = environment_experiment(Verifiers(NAME))
    with open_task(run.task) as task:
        check_task(task)


@pytest.mark.parametrize(
    ("arguments", "error", "line"),
    [
        ('{"fault": "raises"}', RewardError, "right: no such key; mend the reward, it is never replaced"),
        ('{"fault": "nan"}', RewardError, "must come to a finite number, got nan"),
        ('{"fault": "random"}', TaskError, "did not show or pay what it did before"),
        ('{"fault": "group"}', ConfigError, "its rubric compares the answers of a group"),
        ('{"fault": "tools"}', ConfigError, "offers its model tools to call"),
        ('{"size": 3}', ConfigError, "unexpected keyword argument 'size'"),
        ("[]", ConfigError, "expected a JSON object"),
    ],
)
def test_what_cannot_be_played_is_one_line(arguments: str, error: type[MadrigalError], line: str) -> None:
    with pytest.raises(error, match=line) as refusal:
        opened(arguments)
    assert "\n" not in str(refusal.value)


def test_an_environment_that_is_not_there_or_fails_is_one_line() -> None:
    with pytest.raises(ConfigError, match="Could not import 'no-such-thing' environment"):
        open_verifiers(Verifiers("no-such-thing"))
    task = opened('{"turns": 3}')
    with pytest.raises(TaskError, match="the rollout failed: InfraError: the service is down"):
        played(task, ["fail"])
    with pytest.raises(ConfigError, match=r"task.agents: expected one or more names"):
        Verifiers(NAME, agents=())

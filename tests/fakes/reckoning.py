"""An environment of verifiers, made by hand: sums, in one turn or several."""

from __future__ import annotations

import itertools
from typing import Any

import verifiers as vf
from datasets import Dataset

calls = itertools.count()


class Again(vf.MultiTurnEnv):  # type: ignore[misc]
    """Says that a sum is wrong, until it is right."""

    async def env_response(self, messages: Any, state: Any, **kwargs: Any) -> Any:
        state["tries"] = state.get("tries", 0) + 1
        if messages[-1].content == "fail":
            raise vf.InfraError("the service is down")
        return [vf.UserMessage(content=f"{messages[-1].content} is wrong, {state['tries']} so far.")]

    @vf.stop  # type: ignore[untyped-decorator,unused-ignore]
    async def right(self, state: Any) -> bool:
        return bool(state["trajectory"]) and state["trajectory"][-1]["completion"][-1].content == state["answer"]


def load_environment(
    turns: int = 1, rows: int = 10, held_out: int = 0, fault: str = "", system: str | None = "Reckon."
) -> Any:
    def sums(first: int, count: int) -> Any:
        return Dataset.from_list([{"question": f"{n}+{n}?", "answer": str(2 * n)} for n in range(first, first + count)])

    def right(completion: Any, answer: str) -> float:
        if fault == "raises":
            raise RuntimeError("no such key")
        if fault == "random":
            return float(next(calls))
        if fault == "nan":
            return float("nan")
        return float(completion[-1].content == answer)

    async def words(completion: Any) -> float:
        return float(len(completion))

    def best_of(completions: Any, **kwargs: Any) -> list[float]:
        return [0.0 for _ in completions]

    funcs = [best_of] if fault == "group" else [right, words]
    given = {
        "dataset": sums(0, rows),
        "eval_dataset": sums(100, held_out) if held_out else None,
        "rubric": vf.Rubric(funcs=funcs, weights=[1.0, 0.0][: len(funcs)]),
        "system_prompt": system,
        "tool_defs": [vf.Tool(name="add", description="", parameters={})] if fault == "tools" else None,
    }
    return vf.SingleTurnEnv(**given) if turns == 1 else Again(max_turns=turns, **given)

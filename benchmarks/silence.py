"""Do teams of `relay` learn when to talk, where words cost something? Seekers and holders that are small networks.

    PYTHONPATH=src:benchmarks:tests OMP_NUM_THREADS=1 python benchmarks/silence.py --seeds 0 1 2 3 4

    free                 from nothing, 2 U updates in which messages cost nothing
    priced               the same, but every message with words costs the team PRICE
    free, then priced    U updates of each
    taught               no RL: fitted to experts who always talk and whose seeker repeats what it hears
    taught, then free    U updates from there
    taught, then priced  likewise
    silent, ...          the same, from experts that are silent in 30 % of their messages, whatever the question

The task is `relay` with messages of one word; its rules, prompts, words and splits are the library's, as are play,
credit (MAGRPO), the price (`reward.message`) and the loss. Each round has a network. The first reads what is asked for,
and whether the facts are shown; the others what was heard and one fact, which they look up by what is asked for and
heard. Each says one of 20 words or nothing, the last a color. No word means anything to them before they learn.

What is printed of each arm is what `messages.py` prints of language models.
"""

from __future__ import annotations

import argparse
import copy
import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

import messages
import trust
from fakes.tabular import unchecked_shapes
from madrigal.algorithms.catalog import ALGORITHMS
from madrigal.evaluation.evaluate import EvalSetup
from madrigal.maths.batch import PolicyOutput, make_batch
from madrigal.rollouts.play import GenerationRequest, judge_in_turn
from madrigal.rollouts.rewards import reweight
from madrigal.rollouts.seeds import derive
from madrigal.rollouts.topology import Parallel
from madrigal.rollouts.tree import rollout_groups, walk
from madrigal.settings import RewardWeights
from madrigal.tasks.messages.relay import ASK, COLORS, OBJECTS, Relay, RelayTask
from madrigal.types import Completion, Point

MAGRPO: Any = replace(ALGORITHMS["magrpo"][0], width=4, updates="episode")
TASK = RelayTask(Relay(words=1))
PRICE = 0.1
SILENT = {"taught": 0.0, "silent": 0.3}  # of the experts' messages, the share that is not said
ARMS: dict[str, tuple[str, tuple[int, ...]]] = {  # how a team begins, and whether messages cost anything, half by half
    "free": ("nothing", (0, 0)),
    "priced": ("nothing", (1, 1)),
    "free, then priced": ("nothing", (0, 1)),
    "taught": ("taught", ()),
    "taught, then free": ("taught", (0,)),
    "taught, then priced": ("taught", (1,)),
    "silent": ("silent", ()),
    "silent, then free": ("silent", (0,)),
    "silent, then priced": ("silent", (1,)),
}
HALVES = ("first half", "second half")
PROMPTS, RATE, WARM_RATE = 16, 1e-1, 1e-2
EPOCHS, BATCH = 60, 32  # of the experts' 240 plays
WORDS = ("", *OBJECTS, *COLORS)
HEARD = len(WORDS) + 1  # one more for what is no word
CPU = torch.device("cpu")

Shown = tuple[Tensor, Tensor, Tensor]  # what is asked for and whether facts are shown; what was heard; the facts


class Network(nn.Module):
    """Logits of what is said: by what is asked for, or by what was heard and the fact that is looked up."""

    def __init__(self, outputs: int, *, asks: bool) -> None:
        super().__init__()
        self.asks = asks
        self.key = nn.Linear(2 * len(OBJECTS) + HEARD, len(OBJECTS), bias=False)
        self.say = nn.Linear(2 * len(OBJECTS) if asks else HEARD + len(COLORS), outputs)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.1)

    def forward(self, asked: Tensor, heard: Tensor, facts: Tensor) -> Tensor:
        """[B outputs] nats; `asked` is [B 2 objects], `heard` [B HEARD], `facts` [B objects colors]."""
        if self.asks:
            return self.say(asked).log_softmax(-1)
        scores = self.key(torch.cat([asked, heard], dim=-1)).masked_fill(facts.sum(-1) == 0, -1e9)
        found = (scores.softmax(-1)[..., None] * facts).sum(-2)
        return self.say(torch.cat([heard, found], dim=-1)).log_softmax(-1)


@lru_cache(maxsize=100_000)
def read(prompt: str) -> Shown:
    """What a prompt shows, as numbers."""
    asked, heard, facts = torch.zeros(2, len(OBJECTS)), torch.zeros(HEARD), torch.zeros(len(OBJECTS), len(COLORS))
    for thing, color in re.findall(r"The (\w+) is (\w+)\.", prompt):
        facts[OBJECTS.index(thing), COLORS.index(color)] = 1
    if found := re.search(r"What color is the (\w+)\?", prompt):
        asked[int(bool(facts.any())), OBJECTS.index(found[1])] = 1
    if found := re.search(r"says: (.+)", prompt):
        word = "" if found[1] == "nothing" else found[1]
        heard[WORDS.index(word) if word in WORDS else HEARD - 1] = 1
    return asked.flatten(), heard, facts


def _stacked(prompts: Iterable[str]) -> Shown:
    asked, heard, facts = zip(*map(read, prompts), strict=True)
    return torch.stack(asked), torch.stack(heard), torch.stack(facts)


class Team:
    """A network for each round, and their optimizer."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(derive(seed, "team") % 2**31)
        self.says = (WORDS, WORDS, COLORS)
        self.networks = nn.ModuleList(Network(len(words), asks=n == ASK) for n, words in enumerate(self.says))
        self.adam = torch.optim.Adam(self.networks.parameters(), WARM_RATE)

    @torch.no_grad()
    def speak(self, wanted: Sequence[GenerationRequest]) -> list[Completion]:
        answers: dict[int, Completion] = {}
        for round, words in enumerate(self.says):
            mine = [n for n, one in enumerate(wanted) if one.round == round]
            if mine:
                table = self.networks[round](*_stacked(wanted[n].prompt[-1].content for n in mine))
                draws = torch.tensor([random.Random(wanted[n].seed).random() for n in mine])
                chosen = (table.exp().cumsum(-1) < draws[:, None]).sum(-1).clamp(max=len(words) - 1)
                nats = table.gather(1, chosen[:, None])[:, 0]
                for n, token, logprob in zip(mine, chosen.tolist(), nats.tolist(), strict=True):
                    answers[n] = Completion(words[token], (0,), (token,), (logprob,))
        return [answers[n] for n in range(len(wanted))]

    def score(self, round: int, prompts: Iterable[str], tokens: Tensor) -> Tensor:
        """[B 1] log-probs of answers, of which `tokens` [B 1] are the places."""
        return self.networks[round](*_stacked(prompts)).gather(1, tokens)

    def step(self, loss: Tensor) -> None:
        self.adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
        self.adam.step()


def taught(team: Team, silent: float, seed: int) -> None:
    """Fits a team to the experts of `trust.py`."""
    examples = {example.id: example for example in TASK.examples("train")}
    rows: list[tuple[int, str, int]] = []  # round, prompt, place of what is said
    for row in trust.experts(silent):
        state = TASK.reset(examples[row["id"]])
        for round, words in enumerate(team.says):
            (agent,) = TASK.acting(state)
            said = row["answers"][agent][round]
            rows.append((round, TASK.observe(state, agent, ())[-1].content, words.index(said)))
            state = TASK.step(state, {agent: said}).state
    rng = random.Random(derive(seed, "taught"))
    for _ in range(EPOCHS):
        rng.shuffle(rows)
        for first in range(0, len(rows), 3 * BATCH):
            batch, loss = rows[first : first + 3 * BATCH], torch.zeros(())
            for round in range(len(team.says)):
                mine = [(prompt, token) for place, prompt, token in batch if place == round]
                if mine:
                    said = team.score(round, (prompt for prompt, _ in mine), torch.tensor([[n] for _, n in mine]))
                    loss = loss - said.mean()
            team.step(loss)


def learn(team: Team, updates: int, price: float, seed: int) -> list[float]:
    """MAGRPO; the mean return of the task in every update, in percent."""
    judge = reweight(judge_in_turn(TASK), RewardWeights(cost=1.0, message=price, word=0.0), Parallel(), TASK)
    curve: list[float] = []
    for update in range(updates):
        chosen = random.Random(derive(seed, "examples", update)).choices(TASK.examples("train"), k=PROMPTS)
        origins = [Point(example.id, TASK.reset(example)) for example in chosen]
        key = (seed, price, update)
        groups = rollout_groups(TASK, Parallel(), origins, MAGRPO.branching, team.speak, judge, key)
        stages, _ = MAGRPO.credit(groups, {})
        for stage in stages:
            loss = torch.zeros(())
            for round in range(len(team.says)):
                mine = [sample for sample in stage if sample.turn.round == round]
                batch = make_batch(mine, 0, CPU, total=float(PROMPTS))
                said = team.score(round, (sample.turn.prompt[-1].content for sample in mine), batch.actions)
                loss = loss + MAGRPO.loss(PolicyOutput(said, torch.zeros_like(said)), batch)
            team.step(loss)
        ends = [episode.steps[-1] for _, episode, _ in walk(groups)]
        curve.append(fmean(step.metrics["return_percent"] for step in ends))
    return curve


@lru_cache
def trained(seed: int, begins: str, prices: tuple[float, ...], updates: int) -> Team:
    """A team that begins in some way, after so many updates at each of some prices, one after the other."""
    if not prices:
        team = Team(seed)
        if begins in SILENT:
            taught(team, SILENT[begins], seed)
        return team
    *before, price = prices
    team, began = copy.deepcopy(trained(seed, begins, tuple(before), updates)), time.process_time()
    team.adam = torch.optim.Adam(team.networks.parameters(), RATE)
    phase = f"{begins}, {'priced' if price else 'free'}" if begins in SILENT else HALVES[len(before)]
    curve = learn(team, updates, price, derive(seed, phase))
    tenths = [fmean(curve[n : n + updates // 10]) for n in range(0, updates - updates // 10 + 1, updates // 10)]
    shares, took = " ".join(f"{x:.0f}" for x in tenths), time.process_time() - began
    print(f"seed {seed}, {phase}, price {price:g}: {shares} % by tenths, {took:.0f} s", flush=True)
    return team


@unchecked_shapes()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--price", type=float, default=PRICE)
    parser.add_argument("--changes", nargs="+", choices=messages.CHANGES, default=list(messages.CHANGES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    arms: dict[str, dict[str, EvalSetup]] = {}
    for seed in options.seeds:
        for name in options.arms:
            begins, priced = ARMS[name]
            team = trained(seed, begins, tuple(options.price * one for one in priced), options.updates)
            setup = EvalSetup(TASK, Parallel(), TASK.examples("test"), team.speak, judge_in_turn(TASK))
            arms.setdefault(name, {})[str(seed)] = setup
    for name, setups in arms.items():
        print(f"\n### {name}\n", flush=True)
        messages.report(setups, options.changes)


if __name__ == "__main__":
    main()

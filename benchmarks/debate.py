"""What training a debate does: MAPoRL's experiments, on starter models and embedded questions.

    python benchmarks/debate.py warm                     first: a starter model that can read a debate
    python benchmarks/debate.py turns    --seeds 0 1 2   untrained against trained, round by round
    python benchmarks/debate.py alone    --seeds 0 1 2   one agent trained beside a frozen one, against both
    python benchmarks/debate.py pay      --seeds 0 1 2   incentives: alpha1 and beta0 at 0 and 2
    python benchmarks/debate.py transfer --seeds 0 1 2   trained on one kind of questions, played on the other

The starter models have never read a debate: shown other answers, they lose the thread (2 to 6 % right instead of 35 %).
`warm` teaches them the form and nothing else: in debates made of their own answers, they learn to say in the second and
third round what they say to the question alone. That is the untrained debater: it reads the others and does not use
them, so that its accuracy is flat over rounds.

Every run is a run folder; a run that exists already is read, not repeated. Prints a table in Markdown per experiment:
means over seeds, and 95 % intervals that resample seeds. `--quick` makes everything tiny, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from madrigal.algorithms.maporl import Maporl
from madrigal.assemble import prepare, voices
from madrigal.config import Experiment
from madrigal.engines.transformers import generate
from madrigal.evaluation.evaluate import EvaluationConfig
from madrigal.evaluation.statistics import bootstrap
from madrigal.held_out import evaluate_on, team_of
from madrigal.policies.local import LocalPolicy, PolicyConfig, load_policy
from madrigal.recipes import recipe
from madrigal.sampling import Sampling
from madrigal.seeds import derive
from madrigal.starter.corpora import arithmetic
from madrigal.starter.mixture import Row
from madrigal.starter.recipe import losses, save
from madrigal.starter.rows import collate, encode
from madrigal.tasks.discussion.debate import Debate, DebateTask
from madrigal.train import train
from madrigal.types import Example

ROUNDS = 3
SAMPLING = Sampling(max_new_tokens=64)
Table = dict[str, list[dict[str, float]]]  # a row's name to the figures of each seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("warm", "turns", "alone", "pay", "transfer"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--questions", type=int, default=3000, help="of `warm`")
    parser.add_argument("--epochs", type=int, default=2, help="of `warm`")
    parser.add_argument("--model", default="starter:small", help="that `warm` starts from; another one goes on from it")
    parser.add_argument("--runs", type=Path, default=Path("runs/debate"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warmed = options.runs / "warm"
    if options.what == "warm":
        warm(options.model, warmed, 24 if options.quick else options.questions, options.epochs, options.seeds[0])
        return
    if not warmed.is_dir():
        raise SystemExit(f"no warmed model at {warmed}; make it first: python benchmarks/debate.py warm")
    start = experiment(warmed, options.steps, quick=options.quick)
    made = {"turns": turns, "alone": alone, "pay": pay, "transfer": transfer}[options.what](start, options)
    print(table(options.what, made))


# The runs


def experiment(model: Path, steps: int, *, quick: bool) -> Experiment:
    """The `debate` recipe over three rounds, from the warmed model."""
    run = recipe("debate")
    assert isinstance(run.task, Debate) and isinstance(run.algorithm, Maporl)
    run = replace(
        run,
        task=replace(run.task, rounds=ROUNDS),
        team=replace(run.team, policy=PolicyConfig(model=str(model)), rounds=ROUNDS),
        sampling=SAMPLING,
        evaluation=EvaluationConfig(examples=200, timed=0),
        steps=steps,
    )
    if quick:
        short = replace(run.algorithm, width=1, epochs=1, minibatches=1)
        run = replace(run, algorithm=short, evaluation=EvaluationConfig(examples=4, timed=0), steps=1, prompts=2)
    return run


def turns(start: Experiment, options: argparse.Namespace) -> Table:
    found: Table = {"untrained": [], "trained": []}
    for seed in options.seeds:
        results = made(start, options.runs / f"both-seed{seed}", seed)
        found["untrained"].append(results["before"])
        found["trained"].append(results["after"])
    return found


def alone(start: Experiment, options: argparse.Namespace) -> Table:
    """Each agent has policies of its own here; who is frozen stays the warmed model in all rounds."""
    apart = replace(start, team=replace(start.team, shared=False))
    frozen = replace(start.team.policy, trainable=False)
    found: Table = {"untrained": [], "first alone": [], "both": []}
    for seed in options.seeds:
        both = made(apart, options.runs / f"apart-seed{seed}", seed)
        one = replace(apart, team=replace(apart.team, seats={"second": frozen}))
        found["untrained"].append(both["before"])
        found["first alone"].append(made(one, options.runs / f"first-seed{seed}", seed)["after"])
        found["both"].append(both["after"])
    return found


def pay(start: Experiment, options: argparse.Namespace) -> Table:
    assert isinstance(start.algorithm, Maporl)
    algorithm = start.algorithm
    found: Table = {}
    for name, paid in {
        "no incentives": algorithm,
        "alpha1 = 2": replace(algorithm, alpha1=2.0),
        "beta0 = 2": replace(algorithm, beta0=2.0),
    }.items():
        folder = name.replace(" = ", "").replace(" ", "-")
        run = replace(start, algorithm=paid)
        found[name] = [made(run, options.runs / f"{folder}-seed{seed}", seed)["after"] for seed in options.seeds]
    return found


def transfer(start: Experiment, options: argparse.Namespace) -> Table:
    assert isinstance(start.task, Debate)
    found: Table = {}
    for domain, other in (("groups", "amounts"), ("amounts", "groups")):
        run, away = (replace(start, task=replace(start.task, domain=name)) for name in (domain, other))
        rows = {f"{other}, untrained": [], f"{other}, trained on {domain}": [], f"{domain}, trained on it": []}  # type: Table
        for seed in options.seeds:
            folder = options.runs / f"{domain}-seed{seed}"
            home = made(run, folder, seed)
            rows[f"{other}, untrained"].append(played(replace(away, seed=seed, steps=0), folder))
            rows[f"{other}, trained on {domain}"].append(played(replace(away, seed=seed), folder))
            rows[f"{domain}, trained on it"].append(home["after"])
        found |= rows
    return found


def made(run: Experiment, folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Trains a run unless it is there; its held-out figures before and after."""
    if not (folder / "team").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        train(replace(run, seed=seed, recipe=folder.name), folder)
    found = json.loads((folder / "evaluation.json").read_text())
    return {when: found[when]["components"] for when in ("before", "after")}


def played(run: Experiment, folder: Path) -> dict[str, float]:
    """A run's saved team (with 0 steps: the model that it started from) on the questions of another experiment."""
    with prepare(run) as task, voices(run, task, team := team_of(folder, run, task.agents)) as (speak, judge):
        assert team.policies
        return evaluate_on(task, run, speak, judge)[0].components


def table(what: str, made: Table) -> str:
    """Markdown: a line per team, mean and interval over seeds."""
    names = [f"{kind}_{n + 1}" for kind in ("accuracy", "majority") for n in range(ROUNDS)]
    names += ["wrong_to_right", "right_to_wrong", "delta0", "delta1"]
    lines = [f"### {what}: {len(next(iter(made.values())))} seeds", "", f"| % | {' | '.join(names)} |"]
    lines += [f"|---|{'---|' * len(names)}"]
    for row, seeds in made.items():
        lines.append(f"| {row} | {' | '.join(_cell([seed[name] for seed in seeds]) for name in names)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    interval = bootstrap(values)
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


# The warm-up


def warm(model: str, folder: Path, questions: int, epochs: int, seed: int) -> None:
    """Teaches a starter model to say in a debate what it says alone, and saves it."""
    policy = load_policy("learner", PolicyConfig(model=model), torch.device("cpu"))
    rows = debates(load_policy("starter", PolicyConfig(), torch.device("cpu")), questions, seed)
    print(f"{len(rows)} rows", flush=True)
    teach(policy, rows, epochs)
    save(policy.model, policy.tokenizer, folder)
    print(f"saved to {folder}")


def debates(policy: LocalPolicy, questions: int, seed: int) -> list[Row]:
    """For every question a prompt of the first, second and third round, each with an answer to the question alone."""
    rng = random.Random(f"debates/{seed}")
    task = DebateTask(Debate(rounds=ROUNDS))
    examples = [Example(f"warm/{n}", arithmetic.problem(rng, "train")) for n in range(questions)]
    num = 2 * (ROUNDS - 1) + ROUNDS  # answers that are shown, and answers that are learned
    asked = [task.observe(task.reset(example), "first", ()) for example in examples for _ in range(num)]
    said = iter(generate(policy, asked, [derive(seed, "debates", n) for n in range(len(asked))], SAMPLING))
    rows = []
    for example in examples:
        state = task.reset(example)
        for _ in range(ROUNDS):
            agent = rng.choice(task.agents)
            rows.append(Row("arithmetic", task.observe(state, agent, ()), next(said).text))
            if len(state.rounds) < ROUNDS - 1:
                state = task.step(state, {name: next(said).text for name in task.agents}).state
    return rows


def teach(policy: LocalPolicy, rows: Sequence[Row], epochs: int, lr: float = 1e-3, tokens: int = 3000) -> None:
    """Cross-entropy on the answers, rows of similar length together."""
    encoded = sorted(encode(list(rows), policy.tokenizer), key=lambda row: len(row.ids))
    policy.model.train()
    optimiser = torch.optim.AdamW(policy.model.parameters(), lr=lr, weight_decay=0.0)
    batches = list(_cut(encoded, tokens))
    for epoch in range(epochs):
        random.Random(epoch).shuffle(batches)
        total = 0.0
        for n, batch in enumerate(batches):
            for group in optimiser.param_groups:
                group["lr"] = lr * (1 - (epoch * len(batches) + n) / (epochs * len(batches)))
            optimiser.zero_grad()
            loss, _ = losses(policy.model, collate(batch, 0.0, "cpu"))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
            optimiser.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1} of {epochs}: loss {total / len(batches):.3f} nats a token", flush=True)
    policy.model.eval()


def _cut(encoded: Sequence, tokens: int) -> Iterator[list]:
    start = 0
    while start < len(encoded):
        stop = start + 1
        while stop < len(encoded) and len(encoded[stop].ids) * (stop + 1 - start) <= tokens:
            stop += 1
        yield list(encoded[start:stop])
        start = stop


if __name__ == "__main__":
    main()

"""Kills, stops and starves whole runs of tiny models, and compares what is left with runs that were left alone.

    PYTHONPATH=src:tools:tests python benchmarks/reliability.py kills --count 200
    PYTHONPATH=src:tools:tests python benchmarks/reliability.py stops --count 40
    PYTHONPATH=src:tools:tests python benchmarks/reliability.py harms
    PYTHONPATH=src:tools:tests python benchmarks/reliability.py steady --steps 1000

Every run is a process forked from one that has made the imports, and is ended, starved or left to end like any other.
Linux only; `harms` mounts a small disk and needs root. Prints one JSON object per case; docs/reliability.md has the
figures.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import load_file

from fakes import tiny
from fakes.runs import tiny_run
from madrigal import cli
from madrigal.algorithms.actor_critic import MAPPO
from madrigal.algorithms.group import GroupRelative
from madrigal.algorithms.pmic import Pmic
from madrigal.algorithms.self_play import SelfPlay
from madrigal.config import Experiment, to_json
from madrigal.runs.checkpoint import checkpoints, load_checkpoint
from madrigal.runs.log import read_lines
from madrigal.runs.signals import ending_cleanly
from madrigal.settings import EvaluationConfig, Lora, PartnerConfig, PolicyConfig, RecordsConfig, Sampling
from madrigal.tasks.games.mixture import Games
from madrigal.tasks.own import CustomTask
from madrigal.training import saving
from madrigal.training.held_out import NullCallback
from madrigal.training.train import train_experiment

PLACES = ("start", "evaluation", "step", "checkpoint", "team")
WRITING = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}
RESUMED_KILLS = 0.25  # share of the resumed runs that are killed as well
SECONDS = 120.0  # a run of seconds that takes longer hangs


def experiments(model: Path, letters: Path) -> dict[str, Experiment]:
    """Runs of four steps of 28,000 weights, by what is peculiar to them."""
    common: dict[str, Any] = {
        "steps": 4,
        "sampling": Sampling(temperature=0.9, max_new_tokens=4),
        "evaluation": EvaluationConfig(examples=2, every=2, timed_examples=0),
        "records": RecordsConfig(checkpoint_every=1, checkpoint_minutes=0),
    }
    group = GroupRelative(width=2, kl=0.01)
    full = tiny_run(model, "fakes.odd:joint", group, **common)
    games = tiny_run(
        letters, Games(games=("kuhn",)), SelfPlay(), prompts=4, **{k: v for k, v in common.items() if k != "prompts"}
    )
    small = Pmic(width=2, alpha=1.0, beta=1.0, start=2, fits=2, batch=8, capacity=30, estimator_lr=0.01)
    lora = replace(full.team, policy=PolicyConfig(model=str(model), lora=Lora(2)))
    best = replace(full, evaluation=EvaluationConfig(examples=2, every=1, timed_examples=0, keep="best"))
    return {
        "full": full,
        "lora": replace(full, team=lora),
        "critics": replace(full, task=replace(full.task, path="fakes.odd:own"), algorithm=replace(MAPPO, width=2)),
        "memory": replace(full, algorithm=small),
        "partners": replace(games, team=replace(games.team, partners=PartnerConfig(share=0.5, every=1, keep=2))),
        "best": best,
    }


class Shared:
    """What a child tells its parent however it ends: where it is, and how many writes it has made."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 16)

    def place(self, name: str | None = None) -> str:
        if name is not None:
            self.memory[0] = PLACES.index(name)
        return PLACES[self.memory[0]]

    def writes(self, count: int | None = None) -> int:
        if count is not None:
            self.memory[8:16] = count.to_bytes(8, "little")
        return int.from_bytes(self.memory[8:16], "little")


class Watch(NullCallback):
    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def stage(self, name: str) -> None:
        self.shared.place("evaluation" if name.startswith(("evaluating", "validating")) else "step")

    def evaluated(self, when: str, result: object) -> None:
        self.shared.place("step")


def told(shared: Shared, place: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        before = shared.place()
        shared.place(place)
        result = real(*arguments)
        shared.place(before)
        return result

    return call


def forked(work: Callable[[], object], log: Path) -> int:
    """Starts a child that works; 0 is what it exits with when that returns, what it says goes to a file."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    code = 70
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 (the child ends here, whatever it was)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def training(run: Experiment, folder: Path, shared: Shared, *, resume: bool, last_write: int = 0) -> Callable[[], None]:
    """A run that ends itself with SIGKILL at its n-th change of a file in its folder, if n is given."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WRITING and arguments and str(folder) in str(arguments[0]):
            shared.writes(shared.writes() + 1)
            if shared.writes() == last_write:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        sys.addaudithook(hook)
        for name, place in (("save_checkpoint", "checkpoint"), ("save_team", "team")):
            setattr(saving, name, told(shared, place, getattr(saving, name)))
        train_experiment(run, folder, resume=resume, watch=Watch(shared))

    return work


def ended(child: int, kill_after: float | None = None) -> int:
    """Waits for a child and returns its exit status, -9 where it was killed."""
    began = time.monotonic()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - began
        if passed > SECONDS or (kill_after is not None and passed >= kill_after):
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def digest(folder: Path) -> dict[str, Any]:
    """Everything that must be equal in two runs of the same settings: all but clocks."""

    def timeless(record: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in record.items() if "seconds" not in key and "per_second" not in key}

    files = sorted((folder / "team").rglob("*.safetensors"))
    newest = load_checkpoint(checkpoints(folder / "checkpoints")[-1][1])
    evaluations = json.loads((folder / "evaluation.json").read_text())
    return {
        "steps": [timeless(record) for record in read_lines(folder / "steps.jsonl")],
        "episodes": [timeless(record) for record in read_lines(folder / "episodes.jsonl")],
        "evaluations": {when: (each["return_percent"], each["components"]) for when, each in evaluations.items()},
        "team": {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "tensors": tensors(newest[0]),
        "memory": json.dumps(newest[1]["memory"]),
    }


def tensors(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(
            value.contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else str(value).encode()
        ).hexdigest()
    if isinstance(value, dict):
        return {str(key): tensors(inner) for key, inner in value.items()}
    return [tensors(inner) for inner in value] if isinstance(value, list | tuple) else str(value)


def unreadable(folder: Path) -> list[str]:
    """What bears the name of a checkpoint or of a team and cannot be read."""
    wrong = []
    for _, path in checkpoints(folder / "checkpoints"):
        try:
            load_checkpoint(path)
        except Exception as error:  # noqa: BLE001 (every failure counts)
            wrong.append(f"{path.name}: {error}")
    for file in folder.glob("team*/*/*.safetensors"):
        try:
            load_file(file)
        except Exception as error:  # noqa: BLE001
            wrong.append(f"{file}: {error}")
    return wrong


def kills(home: Path, options: argparse.Namespace) -> bool:
    """Kills runs at random moments of time and at random writes, and resumes them."""
    draws, right = random.Random(options.seed), True
    for name, run in chosen(home, options):
        shared, whole = Shared(), home / name / "whole"
        whole.parent.mkdir()
        began = time.monotonic()
        if code := ended(forked(training(run, whole, shared, resume=False), home / "log")):
            fail(name, code, home)
        seconds, writes, expected = time.monotonic() - began, shared.writes(), digest(whole)
        count = options.count // len(options.only) + (options.count % len(options.only) > options.only.index(name))
        places, bad, unequal, made = Counter[str](), list[str](), list[str](), 0
        while made < count:
            folder = home / name / f"run-{made}"
            resume = False
            while True:
                shared = Shared()
                killed = not resume or (made < count and draws.random() < RESUMED_KILLS)
                by_write = draws.random() < 0.5
                last = draws.randint(1, writes) if killed and by_write else 0
                after = draws.uniform(0, seconds) if killed and not by_write else None
                code = ended(forked(training(run, folder, shared, resume=resume, last_write=last), home / "log"), after)
                if code == -signal.SIGKILL and killed:
                    made += 1
                    places[shared.place()] += 1
                    bad += unreadable(folder)
                elif code:
                    fail(name, code, home)
                elif not killed or resume:
                    break
                else:  # it was faster than its end: no kill, and nothing to resume
                    shutil.rmtree(folder)
                    continue
                resume = True
            if digest(folder) != expected:
                unequal.append(differing(expected, digest(folder)))
            shutil.rmtree(folder)
        right &= not bad and not unequal
        row = {"run": name, "kills": made, **places, "unreadable": bad, "unequal": unequal}
        print(json.dumps(row | {"seconds_of_a_run": round(seconds, 2), "writes_of_a_run": writes}), flush=True)
    return right


def differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    return ", ".join(key for key in one if one[key] != other[key])


def fail(name: str, code: int, home: Path) -> NoReturn:
    raise SystemExit(f"{name}: exit {code}\n{(home / 'log').read_text()}")


def imported(run: Experiment, home: Path) -> None:
    """Imports what a run imports, so that the children need not; a child finds out what, as threads are not forked."""

    def work() -> None:
        train_experiment(run, home / "first")
        (home / "modules").write_text(json.dumps(list(sys.modules)))

    ended(forked(work, home / "log"))
    shutil.rmtree(home / "first")
    for module in json.loads((home / "modules").read_text()):
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def commanded(given: Path, folder: Path, *flags: str) -> Callable[[], None]:
    """`madrigal train` as its user has it."""
    arguments = [str(given), "--runs", str(folder.parent), "--name", folder.name, "--trust", "--quiet", *flags]

    def work() -> None:
        with ending_cleanly():
            sys.exit(cli.run(["train", *arguments]))

    return work


def last_line(log: Path) -> str:
    """The error or note that was said last, without the bars of libraries; "Traceback" where there is one."""
    lines = [line.rpartition("\r")[2] for line in log.read_text().splitlines()]
    if any("Traceback" in line for line in lines):
        return "Traceback"
    return next((line for line in reversed(lines) if line.startswith(("madrigal: ", "Stopped"))), "")


def stops(home: Path, options: argparse.Namespace) -> bool:
    """SIGTERM at random moments: seconds until the end, exit code, what was saved; then resumed and compared."""
    draws, right = random.Random(options.seed), True
    for name, run in chosen(home, options):
        given, place, whole = home / f"{name}.json", home / name, home / f"{name}-whole"
        given.write_text(to_json(run))
        began = time.monotonic()
        ended(forked(commanded(given, whole), home / "log"))
        seconds, expected = time.monotonic() - began, digest(whole)
        longest = max(record["seconds"] for record in read_lines(whole / "steps.jsonl"))
        latest, codes, lost, unequal = 0.0, Counter[int](), 0, 0
        for _ in range(options.count // len(options.only)):
            child = forked(commanded(given, place), home / "log")
            time.sleep(draws.uniform(0.05, seconds))
            os.kill(child, signal.SIGTERM)
            asked = time.monotonic()
            codes[code := ended(child)] += 1
            latest = max(latest, time.monotonic() - asked)
            if code not in (0, 143) or last_line(home / "log") == "Traceback":
                fail(name, code, home)
            made = read_lines(place / "steps.jsonl")
            saved = [step for step, _ in checkpoints(place / "checkpoints")]
            lost += bool(made) and made[-1]["step"] + 1 not in saved
            if (place / "experiment.json").exists():
                if again := ended(forked(commanded(given, place, "--resume"), home / "log")):
                    fail(name, again, home)
                unequal += digest(place) != expected
            shutil.rmtree(place, ignore_errors=True)
        row = {"run": name, "exits": codes, "latest": round(latest, 2), "longest_step": round(longest, 2)}
        print(json.dumps(row | {"runs_with_steps_lost": lost, "unequal": unequal}), flush=True)
        right &= set(codes) <= {0, 143} and not lost and not unequal and latest < longest + 5
    return right


TASK = """
import json
from pathlib import Path
from madrigal.rollouts.task import SingleRound
from madrigal.types import Example

def reward(example, said):
    text = said["ann"] + said["bob"]
    return sum(ord(c) % 2 for c in text) / max(1, len(text))

words = json.loads((Path(__file__).parent / "words.json").read_text())
examples = tuple(Example(str(n), {"word": word}) for n, word in enumerate(words))
def prompt(example, agent):
    return f"{agent}, {example.data['word']}!"

task = SingleRound("odd", ("ann", "bob"), examples[2:], examples[:2], prompt, reward)
"""


def harms(home: Path, options: argparse.Namespace) -> bool:
    """Full disks, a folder that is read-only or gone, data that are gone, a clock that runs backwards."""
    options.only = ["full"]
    _, run = next(chosen(home, options))
    (home / "task").mkdir()
    (home / "task" / "odd.py").write_text(TASK)
    (home / "task" / "words.json").write_text('["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]')
    run = replace(run, task=CustomTask(f"{home}/task/odd.py:task"), steps=12)
    right, whole, given = True, home / "whole", home / "given.json"
    given.write_text(to_json(run))
    if code := ended(forked(commanded(given, whole), home / "log")):
        fail("whole", code, home)
    expected = digest(whole)
    size = sum(file.stat().st_size for file in whole.rglob("*") if file.is_file()) // 1024

    def case(name: str, folder: Path, harm: Callable[[], object], mend: Callable[[], object], work: Any = None) -> None:
        """Harms a run after its first steps, mends what was harmed, resumes: one line, and the numbers of the whole."""
        nonlocal right
        child = forked(work or commanded(given, folder), home / "log")
        limit = time.monotonic() + SECONDS
        while len(read_lines(folder / "steps.jsonl")) < 2 and time.monotonic() < limit and not gone(child):
            time.sleep(0.01)
        harm()
        code = ended(child)
        said, wrong = last_line(home / "log"), unreadable(folder)
        mend()
        again = ["--resume"] if (folder / "experiment.json").exists() else []
        code_again = ended(forked(commanded(given, folder, *again), home / "log"))
        equal = not code_again and digest(folder) == expected
        row = {"case": name, "exit": code, "said": said.replace(str(home), ""), "unreadable": wrong, "equal": equal}
        print(json.dumps(row), flush=True)
        if code_again:
            print((home / "log").read_text()[-600:])
        right &= equal and said != "Traceback" and not wrong

    def backwards() -> None:
        began, then = time.monotonic(), time.time()
        time.time = lambda: then - 86_400 - 3 * (time.monotonic() - began)
        commanded(given, home / "clock")()

    def nothing() -> None: ...

    task, away = home / "task", home / "away"
    case("clock a day back, and backwards", home / "clock", nothing, nothing, backwards)
    case("folder gone", home / "gone", lambda: (home / "gone").rename(home / "elsewhere"), nothing)
    case("checkpoints gone", home / "cp", lambda: (home / "cp" / "checkpoints").rename(home / "cp-elsewhere"), nothing)
    case("data gone", home / "data", lambda: task.rename(away), lambda: away.rename(task))
    frozen, disk = home / "frozen", home / "disk"
    disk.mkdir()
    case("folder read-only", frozen, lambda: changed("+i", frozen), lambda: changed("-i", frozen))
    for number in range(options.count):
        kilobytes = 4 + (size * number) // options.count
        mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk))
        try:
            case(f"disk of {kilobytes} kB", disk / "run", nothing, lambda: mount("-o", "remount,size=1g", str(disk)))
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return right


def gone(child: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def changed(attribute: str, folder: Path) -> None:
    subprocess.run(["chattr", "-R", attribute, str(folder)], check=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def steady(home: Path, options: argparse.Namespace) -> bool:
    """Memory, descriptors, threads and children of a long run, a tenth of it apart."""
    right = True
    for name, run in chosen(home, options):
        rows = home / f"{name}.jsonl"
        longer = replace(
            run,
            steps=options.steps,
            evaluation=EvaluationConfig(examples=2, every=options.steps // 10, timed_examples=0),
            records=RecordsConfig(checkpoint_every=options.steps // 20, checkpoint_minutes=0),
        )

        def work(run: Experiment = longer, name: str = name, rows: Path = rows) -> None:
            train_experiment(run, home / name, watch=Gauge(rows, options.steps // 10))

        child = forked(work, home / "log")
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            fail(name, code, home)
        gauged = read_lines(rows)
        first, last = gauged[1], gauged[-1]  # caches and the first snapshots are there after two tenths
        growth = {key: round(100 * (last[key] - first[key]) / max(1, first[key]), 2) for key in first if key != "step"}
        print(json.dumps({"run": name, "first": first, "last": last, "growth_percent": growth}), flush=True)
        right &= max(growth.values()) <= 2
    return right


class Gauge(NullCallback):
    def __init__(self, rows: Path, every: int) -> None:
        self.rows, self.every = rows, every

    def step(self, record: dict[str, Any]) -> None:
        if (record["step"] + 1) % self.every == 0:
            gc.collect()
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            row = {
                "step": record["step"] + 1,
                "memory_kb": int(status["VmRSS"].split()[0]),
                "descriptors": len(list(Path("/proc/self/fd").iterdir())),
                "threads": int(status["Threads"]),
                "children": len(children),
            }
            with self.rows.open("a") as stream:
                stream.write(json.dumps(row) + "\n")


def chosen(home: Path, options: argparse.Namespace) -> Iterator[tuple[str, Experiment]]:
    model = tiny.build_model(home / "model")
    every = experiments(model, model)
    options.only = options.only or list(every)
    for name in ("lora", "memory"):
        imported(every[name], home)
    yield from ((name, every[name]) for name in options.only)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--count", type=int, default=200, help="kills or stops in all")
    parser.add_argument("--steps", type=int, default=1000, help="of a run that has to be steady")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="*", help="runs: full, lora, critics, memory, partners, best")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        sys.exit(not COMMANDS[options.what](Path(home), options))


COMMANDS: dict[str, Callable[[Path, argparse.Namespace], bool]] = {
    "kills": kills,
    "stops": stops,
    "harms": harms,
    "steady": steady,
}

if __name__ == "__main__":
    main()

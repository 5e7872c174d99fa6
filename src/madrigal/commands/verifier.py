"""madrigal verifier data | train | check | serve."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from madrigal.commands.arguments import quietly, unknown_flag
from madrigal.runs.plain import plain_text
from madrigal.runs.variants import flags
from madrigal.settings import PolicyConfig, Sampling
from madrigal.tasks.discussion.debate import Debate, DebateTask, question_of
from madrigal.tasks.discussion.verifier import Verifier
from madrigal.types import ConfigError
from madrigal.verifier.calibration import Calibration, calibration
from madrigal.verifier.data import Ask, Journal, Row, Say, check_apart, counted, load_rows, write_rows
from madrigal.verifier.gathering import Gathering, gather
from madrigal.verifier.server import address_of, make_server
from madrigal.verifier.settings import Body, Training

if TYPE_CHECKING:
    from madrigal.policies.local import LocalPolicy

USAGE = """usage: madrigal verifier <command> ...

  data FILE        gather right and wrong answers of a model, as many of each to every question
  train FILE       train a verifier on them: a model with an adapter and a head
  check FOLDER     how far its scores can be believed, on answers to other questions
  serve FOLDER     answer requests for scores, on this machine only

settings of each: madrigal verifier COMMAND --help
"""
FEW = 40  # questions that a starter model is asked by default: enough to see how it goes, within minutes


@dataclass(frozen=True, slots=True)
class Data:
    """Gathers labeled answers.

    Attributes:
        file: where the answers go, .jsonl.
        model: whose answers; best those of the model whose answers the verifier will judge.
        task: where the questions come from; agents and rounds do not matter.
        split: of the questions. A check needs other questions than training.
        questions: the first so many of them; 0 takes all. By default all, and 40 for starter models.
        max_new_tokens: the longest answer.
        gather: how often and how the model is asked.
        resume: go on with a gathering that was stopped.
        device: auto, cpu or cuda.
    """

    file: tyro.conf.Positional[Path]
    model: str = "starter:small"
    task: Debate = field(default_factory=Debate)
    split: Literal["train", "test"] = "train"
    questions: int | None = None
    max_new_tokens: int = 300
    gather: Gathering = field(default_factory=Gathering)
    resume: bool = False
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Train:
    """Trains a verifier.

    Attributes:
        file: labeled answers, of `madrigal verifier data`.
        output: the folder of the verifier.
        held_out: answers to other questions, to check it on afterwards.
        body: what it is made of.
        training: how it is trained.
        device: auto, cpu or cuda.
    """

    file: tyro.conf.Positional[Path]
    output: Path = Path("verifier")
    held_out: Path | None = None
    body: Body = field(default_factory=Body)
    training: Training = field(default_factory=Training)
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Check:
    """Checks a verifier's scores.

    Attributes:
        folder: the verifier.
        data: labeled answers to questions that it was not trained on.
        bins: how many bands of scores are shown.
        json: print numbers for programs.
        device: auto, cpu or cuda.
    """

    folder: tyro.conf.Positional[Path]
    data: Path
    bins: int = 10
    json: bool = False
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Serve:
    """Serves a verifier on this machine.

    Attributes:
        folder: the verifier.
        port: 0 takes a free one.
        watch_input: end when the input closes, and say the address in one line of JSON: for programs that start this.
        device: auto, cpu or cuda.
    """

    folder: tyro.conf.Positional[Path]
    port: int = 8501
    watch_input: bool = False
    device: str = "auto"


def verifier_command(arguments: list[str]) -> int:
    """madrigal verifier data|train|check|serve ..."""
    commands: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
        "data": (Data, data_command),
        "train": (Train, train_command),
        "check": (Check, check_command),
        "serve": (Serve, serve_command),
    }
    if not arguments or arguments[0] in {"-h", "--help"}:
        print(USAGE, end="")
        return 0 if arguments else 2
    name, *words = arguments
    if name not in commands:
        raise ConfigError(f"verifier: expected one of {', '.join(commands)}, got {name!r}")
    kind, command = commands[name]
    return command(_settings(kind, words, f"madrigal verifier {name}"))


def _settings(kind: type[Any], words: list[str], prog: str) -> Any:
    """The settings of a command.

    Raises:
        ConfigError: in one line, if the words do not fit.
    """
    settings, strangers = quietly(lambda: tyro.cli(kind, prog=prog, args=words, return_unknown_args=True))
    if strangers:
        raise ConfigError(unknown_flag(strangers, flags(asdict(settings)), prog))
    return settings


def data_command(options: Data) -> int:
    """Gathers answers, writes them, and says what came."""
    from madrigal.policies.local import load_policy
    from madrigal.training.teams import pick_device

    console = Console()
    task, split = DebateTask(options.task), options.split
    count = options.questions if options.questions is not None else FEW * options.model.startswith("starter:")
    examples = task.examples(split)[: count or None]
    questions = {example.id: question_of(example, options.task) for example in examples}
    settings = {**asdict(options), "questions": count} | dict.fromkeys(("file", "resume", "device"))
    journal = Journal(options.file, settings, resume=options.resume)
    policy = load_policy("generator", PolicyConfig(model=options.model, trainable=False), pick_device(options.device))

    def tell(line: str) -> None:
        console.print(plain_text(console, line, lines=False), soft_wrap=True)

    plainly = options.gather.samples * len(questions)
    tell(
        f"asking {options.model} {len(questions)} questions, {options.gather.samples} times each; {journal.count} "
        "answers are there already"
    )
    say = counted(speaker(policy, options), max(0, plainly - journal.count), tell)
    try:
        rows = gather(questions, journal.recording(say), options.gather)
    except KeyboardInterrupt:
        tell(f"stopped; the answers so far are in {journal.path}: go on with the same command and --resume")
        return 130
    if not rows:
        journal.remove()
        raise ConfigError(
            "verifier data: no question got both right and wrong answers; raise --gather.samples or --gather.tries, or "
            "take --gather.aid beginning for a model that cannot be told"
        )
    write_rows(rows, options.file)
    journal.remove()
    answered = len({row.id for row in rows})
    ways = ", ".join(f"{count} {way}" for way, count in Counter(row.way for row in rows).items())
    tell(
        f"{options.file}: {len(rows)} answers, half of them right, to {answered} of {len(questions)} questions ({ways})"
    )
    return 0


def speaker(policy: LocalPolicy, options: Data) -> Say:
    """Answers of a policy, each with the beginning that it was given."""
    from madrigal.policies.generate import generate

    def say(asks: Sequence[Ask], temperature: float) -> list[str]:
        sampling = Sampling(temperature=temperature, top_p=options.gather.top_p, max_new_tokens=options.max_new_tokens)
        completions = generate(policy, [ask.prompt for ask in asks], [ask.seed for ask in asks], sampling)
        return [_beginning(ask) + completion.text for ask, completion in zip(asks, completions, strict=True)]

    return say


def _beginning(ask: Ask) -> str:
    last = ask.prompt[-1]
    return last.content if last.role == "assistant" else ""


def train_command(options: Train) -> int:
    """Trains a verifier, saves it, and checks it where there are answers to other questions."""
    from madrigal.training.teams import pick_device
    from madrigal.verifier.model import new_verifier
    from madrigal.verifier.training import train_verifier

    console, rows = Console(), load_rows(options.file)
    held_out = load_rows(options.held_out) if options.held_out else []
    check_apart(rows, held_out)
    verifier = new_verifier(options.body, pick_device(options.device), options.training.seed)
    with console.status("training") as status:
        losses = train_verifier(
            verifier, rows, options.training, lambda n, of, loss: status.update(f"step {n} of {of}, loss {loss:.3f}")
        )
    verifier.save(options.output)
    tail = losses[-max(1, len(losses) // 10) :]
    console.print(
        f"{options.output}: {len(losses)} steps, loss {losses[0]:.3f} at first and {sum(tail) / len(tail):.3f} over "
        f"the last {len(tail)}",
        soft_wrap=True,
    )
    if held_out:
        show(checked(verifier, held_out), console)
    return 0


def check_command(options: Check) -> int:
    """Shows how far a verifier's scores can be believed."""
    from madrigal.training.teams import pick_device
    from madrigal.verifier.model import load_verifier

    verifier = load_verifier(options.folder, pick_device(options.device))
    result = checked(verifier, load_rows(options.data), options.bins)
    if options.json:
        print(json.dumps(_plain(asdict(result)), indent=2))
    else:
        show(result, Console())
    return 0


def checked(verifier: Verifier, rows: Sequence[Row], bins: int = 10) -> Calibration:
    """A verifier on labeled answers."""
    if not 0 < bins <= 100:
        raise ConfigError(f"verifier check: expected 1 to 100 bins, got {bins}")
    scores = [score for row in rows for score in verifier(row.asked, [row.answer])]
    return calibration(scores, [row.right for row in rows], bins)


def show(result: Calibration, console: Console) -> None:
    """The numbers and the bins."""
    auc = "none" if result.auc is None else f"{result.auc:.3f}"
    console.print(
        f"{result.answers} answers, {100 * result.base:.1f} % right: accuracy {100 * result.accuracy:.1f} %, AUC "
        f"{auc}, Brier {result.brier:.3f}, ECE {result.ece:.3f}",
        soft_wrap=True,
    )
    table = Table("score", "answers", "mean score", "share right", box=None)
    for one in result.bins:
        cells = (f"{one.score:.3f}", f"{one.right:.3f}") if one.count else ("", "")
        table.add_row(f"{one.low:.2f} to {one.high:.2f}", str(one.count), *cells)
    console.print(table)


def _plain(record: dict[str, object]) -> dict[str, object]:
    """JSON has no nan: what an empty bin does not have is null."""
    empty: dict[str, object] = {"score": None, "right": None}
    bins = [{**one, **(empty if math.isnan(one["score"]) else {})} for one in record["bins"]]  # type: ignore[attr-defined]
    return {**record, "bins": bins}


def serve_command(options: Serve) -> int:
    """Answers requests until Ctrl-C, or until the input closes."""
    from madrigal.training.teams import pick_device
    from madrigal.verifier.model import load_verifier

    server = make_server(load_verifier(options.folder, pick_device(options.device)), options.port)
    if options.watch_input:
        print(json.dumps({"url": address_of(server)}), flush=True)
        threading.Thread(target=_end_with_input, args=(server.shutdown,), daemon=True).start()
    else:
        Console().print(f"{options.folder} answers at {address_of(server)}; Ctrl-C ends it", soft_wrap=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return 0


def _end_with_input(shutdown: Callable[[], None]) -> None:
    """Whoever started this holds the other end of the input; it closes when they are done, or gone."""
    sys.stdin.read()
    shutdown()

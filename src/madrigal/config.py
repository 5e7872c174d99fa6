"""The whole of an experiment as one frozen record, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

import cattrs
from cattrs.strategies import configure_tagged_union

from madrigal.algorithms.catalog import AlgorithmConfig
from madrigal.algorithms.group import GroupRelative
from madrigal.evaluation.evaluate import EvaluationConfig
from madrigal.learning.optimizer import Optimiser
from madrigal.learning.snapshots import PartnerConfig
from madrigal.maths.sampling import Sampling
from madrigal.policies.critic import CriticConfig
from madrigal.policies.local import PolicyConfig
from madrigal.rollouts.reward_weights import Tradeoff
from madrigal.rollouts.topology import Parallel, TopologyConfig
from madrigal.runs.files import parse_json, read_json
from madrigal.runs.folders import is_part
from madrigal.tasks.catalog import TaskConfig
from madrigal.types import ConfigError

PLACES = ("path", "data", "model", "start")  # settings that may name a file
NAMES = ("", "embedded")  # what they say where they name none
NEAR = 3  # folders above a moved experiment.json, and last parts of a name, that are tried


@dataclass(frozen=True, slots=True)
class TeamConfig:
    """Who sits in the seats.

    Attributes:
        policy: of every seat that `seats` does not name.
        seats: other policies for single seats, by agent.
        shared: one policy in all seats instead of one each.
        partners: older selves of this team that take a seat in a share of the groups.
        rounds: policies that share out the rounds, for each seat or, if shared, for all of them: the n-th speaks in the
            n-th round, the last in all after it. 1 is the same in every round, 2 has one for the first and one for all
            others, as many as the task has rounds is one each (MAPoRL).
        chat_template: render prompts by the tokenizer's chat template where it has one; the authors used plain text.
        device: "auto" takes a GPU where there is one.
        start: the folder of a saved team whose weights the policies begin with; "" leaves those of their models.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    seats: dict[str, PolicyConfig] = field(default_factory=dict)
    shared: bool = False
    partners: PartnerConfig = field(default_factory=PartnerConfig)
    rounds: int = 1
    chat_template: bool = True
    device: str = "auto"
    start: str = ""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"team.rounds: expected at least 1 policy for the rounds, got {self.rounds}")
        if self.shared and self.seats:
            raise ConfigError(
                f"team.seats: one policy sits in all seats (team.shared), so that {', '.join(self.seats)} cannot have "
                "another; leave seats empty, or set shared to false"
            )
        if self.partners.share and self.rounds > 1:
            raise ConfigError("team.partners: older selves have one policy for all rounds; leave team.rounds at 1")


@dataclass(frozen=True, slots=True)
class RecordsConfig:
    """What is written down while training.

    Attributes:
        checkpoint_every: steps between checkpoints; 0 saves only at the end and on Ctrl-C.
        keep: checkpoints kept.
        transcripts: episodes of each step written to episodes.jsonl.
        trackers: also send the numbers to these, where installed.
    """

    checkpoint_every: int = 25
    keep: int = 2
    transcripts: int = 2
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()

    def __post_init__(self) -> None:
        for name, count in (("checkpoint_every", self.checkpoint_every), ("transcripts", self.transcripts)):
            if count < 0:
                raise ConfigError(f"records.{name}: expected 0 or more, got {count}")
        if self.keep < 1:
            raise ConfigError(f"records.keep: expected at least 1, got {self.keep}")


@dataclass(frozen=True, slots=True)
class Experiment:
    """Everything that decides the numbers of a run.

    Attributes:
        recipe: the name it goes by, and its run folder's: one part of a path.
        steps: training steps; each plays, credits, updates and syncs once.
        prompts: examples per step, each played `algorithm.width` times.
        seed: every other seed derives from it.
        threads: CPU threads for tensor work; 0 leaves torch's choice.
    """

    recipe: str
    task: TaskConfig
    topology: TopologyConfig = field(default_factory=Parallel)
    team: TeamConfig = field(default_factory=TeamConfig)
    algorithm: AlgorithmConfig = field(default_factory=GroupRelative)
    reward: Tradeoff = field(default_factory=Tradeoff)
    sampling: Sampling = field(default_factory=Sampling)
    optimiser: Optimiser = field(default_factory=Optimiser)
    critic: CriticConfig = field(default_factory=CriticConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    records: RecordsConfig = field(default_factory=RecordsConfig)
    steps: int = 100
    prompts: int = 8
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if not is_part(self.recipe):
            raise ConfigError(f"recipe: expected a name of letters, digits, '_', '.' and '-', got {self.recipe!r}")
        if self.steps < 0:
            raise ConfigError(f"steps: expected 0 or more, got {self.steps}")
        if self.prompts < 1:
            raise ConfigError(f"prompts: expected at least 1 example per step, got {self.prompts}")
        if self.threads < 0:
            raise ConfigError(f"threads: expected 0 (torch's choice) or more, got {self.threads}")


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    # Their own conversions would read 2.7 as 2, "false" as True and a list as its text.
    for kind in (int, bool, str):
        converter.register_structure_hook(kind, _as_written)
    configure_tagged_union(TaskConfig, converter, tag_name="kind")
    configure_tagged_union(TopologyConfig, converter, tag_name="kind")
    # Files written when there was one algorithm do not name it.
    configure_tagged_union(AlgorithmConfig, converter, tag_name="kind", default=GroupRelative)
    return converter


def _as_written(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, got {value!r}")
    return value


def _check_kinds(data: Any, where: str) -> None:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected one JSON object with settings, got {type(data).__name__}")
    for key, union in (("task", TaskConfig), ("topology", TopologyConfig), ("algorithm", AlgorithmConfig)):
        kinds = [choice.__name__ for choice in get_args(union)]
        given = data.get(key, {"kind": kinds[0]})
        kind = given.get("kind", kinds[0] if key == "algorithm" else None) if isinstance(given, dict) else None
        if kind not in kinds:
            raise ConfigError(f"{where}: {key}.kind: expected {' or '.join(kinds)}, got {kind!r}")


def to_json(experiment: Experiment) -> str:
    """The experiment as JSON, every setting spelled out."""
    return json.dumps(_converter().unstructure(experiment, Experiment), indent=2) + "\n"


def from_json(text: str, where: str = "experiment") -> Experiment:
    """Reads an experiment; settings left out take their defaults, unknown ones are errors.

    Raises:
        ConfigError: naming what is unknown or of the wrong type.
    """
    return _structured(parse_json(text, where), where)


def _structured(data: Any, where: str) -> Experiment:
    _check_kinds(data, where)
    try:
        return _converter().structure(data, Experiment)
    except cattrs.BaseValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(cattrs.transform_error(error))}") from error


def read_experiment(path: Path) -> Experiment:
    """Reads experiment.json, given itself or its run folder.

    Files that it names are looked for beside it, too, where they are not found: both may have been moved.

    Raises:
        ConfigError: if there is none, it cannot be read, or a setting in it is wrong.
    """
    file = path / "experiment.json" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"expected an experiment at {file}, found none; give a run folder or an experiment.json")
    try:
        data = _with_places(read_json(file), lambda place: _beside(place, file))
    except RecursionError as error:
        raise ConfigError(f"{file}: expected settings, got lists too deep to be read") from error
    return _structured(data, str(file))


def with_absolute_places(run: Experiment) -> Experiment:
    """The same experiment with every file that it names relative to the present folder named from the root."""
    data = _converter().unstructure(run, Experiment)
    return _converter().structure(_with_places(data, absolute), Experiment)


def without_places(run: Experiment) -> Experiment:
    """The same experiment without the places of its files, for a comparison that looks at their content."""
    data = _converter().unstructure(run, Experiment)
    return _converter().structure(_with_places(data, lambda place: "x:x"), Experiment)


def _with_places(data: Any, change: Callable[[str], str]) -> Any:
    """Settings in which every text that names a file or folder is changed."""
    if isinstance(data, list):
        return [_with_places(inner, change) for inner in data]
    if not isinstance(data, dict):
        return data
    return {
        key: change(value) if key in PLACES and isinstance(value, str) and value else _with_places(value, change)
        for key, value in data.items()
    }


def absolute(name: str) -> str:
    """The name of a file, a folder, or an own task as file.py:name, from the root; others are no files' and stay."""
    return name if Path(name).is_absolute() else _seen_from(Path.cwd(), name) or name


def _beside(name: str, file: Path) -> str:
    """Where a file lies that experiment.json names: there, or as near to it as when both were moved together."""
    if _seen_from(Path(), name):
        return name
    ending = PurePath(name).parts[-NEAR:]
    for folder in file.resolve().parents[:NEAR]:
        for first in range(len(ending)):
            if found := _seen_from(folder, str(PurePath(*ending[first:]))):
                return found
    return name


def _seen_from(folder: Path, name: str) -> str:
    """The name seen from a folder, where there is such a file; else ""."""
    if name in NAMES or name.startswith(("~", "starter:")):
        return ""
    file, marked, task = name.partition(".py:")
    tries = [folder / f"{file}{'.py' if marked else ''}".replace("{split}", split) for split in ("train", "test")]
    try:
        there = any(path.exists() for path in tries)
    except (OSError, ValueError):  # longer than any file's name
        return ""
    return f"{folder / file}{'.py:' if marked else ''}{task}" if there else ""

"""The whole of an experiment as one frozen record, and its JSON.

Knows: every part's own settings record. Does not know: how any of them works, nor recipes' numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import cattrs
from cattrs.strategies import configure_tagged_union

from madrigal.algorithms.catalog import AlgorithmConfig
from madrigal.algorithms.magrpo import Magrpo
from madrigal.evaluation.evaluate import EvaluationConfig
from madrigal.optimiser import Optimiser
from madrigal.partners import PartnerConfig
from madrigal.policies.critic import CriticConfig
from madrigal.policies.local import PolicyConfig
from madrigal.sampling import Sampling
from madrigal.tasks.catalog import TaskConfig
from madrigal.topology import Parallel, TopologyConfig
from madrigal.tradeoff import Tradeoff
from madrigal.types import ConfigError


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
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    seats: dict[str, PolicyConfig] = field(default_factory=dict)
    shared: bool = False
    partners: PartnerConfig = field(default_factory=PartnerConfig)
    rounds: int = 1
    chat_template: bool = True
    device: str = "auto"

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
        recipe: the name it goes by.
        steps: training steps; each plays, credits, updates and syncs once.
        prompts: examples per step, each played `algorithm.width` times.
        seed: every other seed derives from it.
        threads: CPU threads for tensor work; 0 leaves torch's choice.
    """

    recipe: str
    task: TaskConfig
    topology: TopologyConfig = field(default_factory=Parallel)
    team: TeamConfig = field(default_factory=TeamConfig)
    algorithm: AlgorithmConfig = field(default_factory=Magrpo)
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
        if self.steps < 0:
            raise ConfigError(f"steps: expected 0 or more, got {self.steps}")
        if self.prompts < 1:
            raise ConfigError(f"prompts: expected at least 1 example per step, got {self.prompts}")
        if self.threads < 0:
            raise ConfigError(f"threads: expected 0 (torch's choice) or more, got {self.threads}")


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    # Their own conversions would read 2.7 as 2 and "false" as True.
    for kind in (int, bool):
        converter.register_structure_hook(kind, _as_written)
    configure_tagged_union(TaskConfig, converter, tag_name="kind")
    configure_tagged_union(TopologyConfig, converter, tag_name="kind")
    # Files written when there was one algorithm do not name it.
    configure_tagged_union(AlgorithmConfig, converter, tag_name="kind", default=Magrpo)
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
    try:
        data: Any = json.loads(text)
        _check_kinds(data, where)
        return _converter().structure(data, Experiment)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: expected JSON, line {error.lineno} is not: {error.msg}") from error
    except cattrs.BaseValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(cattrs.transform_error(error))}") from error


def read_experiment(path: Path) -> Experiment:
    """Reads experiment.json, given itself or its run folder.

    Raises:
        ConfigError: if there is none, it cannot be read, or a setting in it is wrong.
    """
    file = path / "experiment.json" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"expected an experiment at {file}, found none; give a run folder or an experiment.json")
    try:
        return from_json(file.read_text("utf-8-sig"), str(file))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}: expected JSON in UTF-8, line {line} is not; save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{file}: the experiment could not be read: {error.strerror}") from error

"""The whole of an experiment as one frozen record, and its JSON."""

from __future__ import annotations

import difflib
import json
import math
import reprlib
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache, partial
from pathlib import Path, PurePath
from typing import Any, Literal, get_args, get_origin

import cattrs
from cattrs import AttributeValidationNote
from cattrs.strategies import configure_tagged_union

from madrigal.algorithms.catalog import AlgorithmConfig
from madrigal.algorithms.group_relative import GroupRelative
from madrigal.policies.catalog import CATALOG
from madrigal.rollouts.topology import Parallel, TopologyConfig
from madrigal.runs.files import parse_json, read_json
from madrigal.runs.folders import is_part
from madrigal.runs.manifest import MANIFEST
from madrigal.settings import (
    ClusterConfig,
    CriticConfig,
    EvaluationConfig,
    OptimizerConfig,
    RecordsConfig,
    RewardWeights,
    RolesConfig,
    Sampling,
    TeamConfig,
    WarmConfig,
)
from madrigal.tasks.catalog import TaskConfig
from madrigal.tasks.tools.config import ToolsConfig
from madrigal.types import ConfigError

PLACES = frozenset(  # what may name a file
    ("path", "data", "model", "start", "transitions", "fluency", "demonstrations", "reworded", "script", "cache")
)
ENDPOINTS = ("remote", "expert")  # settings whose model is a name that an endpoint knows, and no file
CODE = ("environment", "observe")  # name a file only as file.py:function
NAMES = ("", "embedded", "base")  # what they say where they name none
# What a resumed run may change: neither the shape of anything that a checkpoint holds nor what the run is about.
FREE = ("steps", "prompts", "threads", "memory", "sampling", "optimizer", "evaluation", "records", "cluster")
LARGEST_COUNT, LARGEST_NUMBER = 2**63 - 1, 1e38
NEAR = 3  # folders above a moved experiment.json, and last parts of a name, that are tried


@dataclass(frozen=True, slots=True)
class Experiment:
    """Everything that decides the numbers of a run.

    Attributes:
        recipe: the name it goes by, and its run folder's: one part of a path.
        steps: training steps; each plays, credits, updates and syncs once.
        prompts: examples per step, each played `algorithm.width` times.
        seed: every other seed derives from it.
        threads: CPU threads for tensor work; 0 leaves torch's choice.
        memory: GB that the run may take on its device; None is what is free there but for 1 GB. Where weights and
            micro-batches of `optimizer.token_budget` would need more, micro-batches become smaller, or activations are
            recomputed; see `madrigal plan`.
        reworded: the prompts in other words: "embedded" takes those that come with the task, else a JSON file of
            phrases and what stands for them (`tasks.reworded`); "" leaves them as the task has them.
    """

    recipe: str
    task: TaskConfig
    topology: TopologyConfig = field(default_factory=Parallel)
    team: TeamConfig = field(default_factory=TeamConfig)
    algorithm: AlgorithmConfig = field(default_factory=GroupRelative)
    tools: ToolsConfig = field(default_factory=ToolsConfig)
    roles: RolesConfig = field(default_factory=RolesConfig)
    reward: RewardWeights = field(default_factory=RewardWeights)
    sampling: Sampling = field(default_factory=Sampling)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    warm: WarmConfig = field(default_factory=WarmConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    records: RecordsConfig = field(default_factory=RecordsConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    steps: int = 100
    prompts: int = 8
    seed: int = 0
    threads: int = 0
    memory: float | None = None
    reworded: str = ""

    def __post_init__(self) -> None:
        if not is_part(self.recipe):
            raise ConfigError(f"recipe: expected a name of letters, digits, '_', '.' and '-', got {self.recipe!r}")
        if self.steps < 0:
            raise ConfigError(f"steps: expected 0 or more, got {self.steps}")
        if self.prompts < 1:
            raise ConfigError(f"prompts: expected at least 1 example per step, got {self.prompts}")
        if self.threads < 0:
            raise ConfigError(f"threads: expected 0 (torch's choice) or more, got {self.threads}")
        if self.memory is not None and not 0 < self.memory < math.inf:
            raise ConfigError(f"memory: expected GB above 0, or None for what is free, got {self.memory}")
        _check_sizes(self)

    @property
    def trains(self) -> bool:
        """Whether any weight is to move, in steps or in a warm start."""
        return self.steps > 0 or self.warm.wanted


def _check_sizes(record: Any, path: str = "") -> None:
    """Refuses numbers that tensors and counters cannot hold, wherever in the settings they stand."""
    inner = (
        record.items()
        if isinstance(record, dict)
        else ((each.name, getattr(record, each.name)) for each in fields(record))
    )
    for name, value in inner:
        if is_dataclass(value) or isinstance(value, dict):
            _check_sizes(value, f"{path}{name}.")
        elif isinstance(value, int) and abs(value) > LARGEST_COUNT:
            raise ConfigError(f"{path}{name}: expected at most {LARGEST_COUNT}, got {value:.6g}")
        elif isinstance(value, float) and math.isfinite(value) and abs(value) > LARGEST_NUMBER:
            raise ConfigError(
                f"{path}{name}: expected a number that float32 can hold, up to {LARGEST_NUMBER}, got {value}"
            )


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    # Their own conversions would read 2.7 as 2, "false" as True, "0.5" as 0.5 and a text as a list of its letters.
    for kind in (int, bool, str):
        converter.register_structure_hook(kind, _as_written)
    converter.register_structure_hook(float, _number)
    for form, hook in ((Literal, _one_of), (tuple, _list)):
        converter.register_structure_hook_func(partial(_is_of, form), hook)
    configure_tagged_union(TaskConfig, converter, tag_name="kind")
    configure_tagged_union(TopologyConfig, converter, tag_name="kind")
    configure_tagged_union(AlgorithmConfig, converter, tag_name="kind")
    return converter


def _is_of(form: Any, kind: Any) -> bool:
    """Whether a type is a Literal, or a tuple, of whatever."""
    return get_origin(kind) is form


def _as_written(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"expected {kind.__name__}, got {value!r}")
    return value


def _number(value: Any, kind: type) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"expected a number, got {value!r}")
    return float(value)


def _one_of(value: Any, kind: Any) -> Any:
    choices = get_args(kind)
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise ValueError(f"expected {' or '.join(map(str, choices))}, got {value!r}")
    return value


def _list(value: Any, kind: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list, got {value!r}")
    kinds = get_args(kind)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise ValueError(f"expected {len(kinds)} values, got {len(value)}")
    return tuple(_converter().structure(inner, one) for inner, one in zip(value, kinds, strict=True))


def _check_kinds(data: Any, where: str) -> None:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected one JSON object with settings, got {type(data).__name__}")
    if "optimiser" in data:
        raise ConfigError(
            f"{where}: these are settings of Madrigal 0.1, whose names and numbers have changed; start the run again "
            "from its recipe, or go on with madrigal 0.1"
        )
    for key, union in (("task", TaskConfig), ("topology", TopologyConfig), ("algorithm", AlgorithmConfig)):
        kinds = [choice.__name__ for choice in get_args(union)]
        given = data.get(key, {"kind": kinds[0]})
        kind = given.get("kind") if isinstance(given, dict) else None
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
        raise ConfigError(f"{where}: {'; '.join(_mistakes(error, data))}") from error


def _mistakes(error: BaseException, data: Any, path: str = "") -> Iterator[str]:
    """For each mistake in the settings at a path: the setting, what was expected, what came."""
    match error:
        case cattrs.ClassValidationError() | cattrs.IterableValidationError():
            inner, others = error.group_exceptions()
            for each, note in inner:
                key = note.name if isinstance(note, AttributeValidationNote) else note.index
                value = data.get(key) if isinstance(data, dict) else data[key]
                yield from _mistakes(each, value, f"{path}.{key}" if path else str(key))
            for each in others:
                yield from _mistakes(each, data, path)
        case cattrs.ForbiddenExtraKeysError():
            known = [setting.name for setting in fields(error.cl)]
            for name in sorted(error.extra_fields):
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(known)}"
                yield f"{path}.{name}: unknown setting; {hint}".removeprefix(".")
        case ConfigError():
            yield _at(path, str(error))
        case ValueError() | OverflowError():
            yield f"{path}: {error}"
        case KeyError():
            yield f"{path}: expected this setting, it has no default"
        case _:  # what cattrs says of a value of another shape names its own code
            yield f"{path}: expected {'settings by name' if path else 'an experiment'}, got {reprlib.repr(data)}"


def _at(path: str, message: str) -> str:
    """A record's own message, which begins with the record's name, with the path to where the record stands.

    >>> _at("team.policy.lora", "lora.rank: expected 0 (no adapter) or more, got -1")
    'team.policy.lora.rank: expected 0 (no adapter) or more, got -1'
    """
    above, _, name = path.rpartition(".")
    if not path or message.startswith(path):
        return message
    return f"{above}.{message}" if message.startswith(f"{name}.") else f"{path}: {message}"


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
        data = _with_places(read_json(file), lambda _, place: _beside(place, file))
    except RecursionError as error:
        raise ConfigError(f"{file}: expected settings, got lists too deep to be read") from error
    return _structured(data, str(file))


def with_absolute_places(run: Experiment) -> Experiment:
    """The same experiment with every file that it names relative to the present folder named from the root."""
    return with_places(run, lambda _, place: absolute(place))


def without_places(run: Experiment) -> Experiment:
    """The same experiment without the places of its files, for a comparison that looks at their content."""
    return with_places(run, lambda _, place: place if place in NAMES else "x:x")


def with_places(run: Experiment, change: Callable[[str, str], str]) -> Experiment:
    """The same experiment with every file that it names named otherwise.

    Args:
        change: of a setting's own name and the place in it, the place to stand there.
    """
    data = _converter().unstructure(run, Experiment)
    return _converter().structure(_with_places(data, change), Experiment)


def _with_places(data: Any, change: Callable[[str, str], str], places: Set[str] = PLACES) -> Any:
    """Settings in which every text that names a file or folder is changed."""
    if isinstance(data, list):
        return [_with_places(inner, change, places) for inner in data]
    if not isinstance(data, dict):
        return data
    return {
        key: change(key, value)
        if isinstance(value, str) and _is_place(key, value, places)
        else _with_places(value, change, places - {"model"} if key in ENDPOINTS else places)
        for key, value in data.items()
    }


def _is_place(key: str, value: str, places: Set[str]) -> bool:
    return bool(value) and (key in places or (key in CODE and ".py:" in value))


def absolute(name: str) -> str:
    """The name of a file, a folder, or an own task as file.py:name, from the root; others are no files' and stay."""
    return name if Path(name).is_absolute() else _seen_from(Path.cwd(), name) or name


def _beside(name: str, file: Path) -> str:
    """Where a file lies that experiment.json names: there, or as near to it as when both were moved together."""
    own = file.resolve().parent
    if (own / MANIFEST).is_file() and (found := _seen_from(own, name)):  # a team's folder brings along what it needs
        return found
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
    if name in NAMES or name in CATALOG or name.startswith(("~", "starter:")):
        return ""
    file, marked, task = name.partition(".py:")
    tries = [folder / f"{file}{'.py' if marked else ''}".replace("{split}", split) for split in ("train", "test")]
    try:
        there = any(path.exists() for path in tries)
    except (OSError, ValueError):  # longer than any file's name
        return ""
    return f"{folder / file}{'.py:' if marked else ''}{task}" if there else ""

"""The card of a team: what it is, how it was trained and what that came to, as the Hugging Face hub shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from madrigal.report.progress import PERCENTS, shown
from madrigal.report.results import TIMES, facts
from madrigal.runs.read import Record, Run, is_number, task_of

TAGS = ("madrigal", "multi-agent", "multi-agent-reinforcement-learning", "team")
UNKNOWN = "unknown to us; see where the model comes from"
HUB_LICENSES = {"Apache-2.0": "apache-2.0", "MIT": "mit"}
LIMITS = (
    "The numbers above are of held-out examples of the data that the team was trained on. Of other texts, languages "
    "and ways of asking they say nothing.",
    "The agents were trained with each other. One of them alone, or beside somebody else, may do worse than its base.",
    "Training raised a reward. What the reward does not see, facts and manners among them, is no better than in the "
    "base models, and may be worse.",
    "Nobody has looked at what these models say to harmful requests.",
)


@dataclass(frozen=True, slots=True)
class Base:
    """A base model of a team.

    Attributes:
        name: as settings name it.
        hub: its name on the hub, "" where it has none.
        license: as the hub states it, "" where nobody told.
        agents: whose base it is, and what of it lies in the folder: its trained "weights", an "adapter", or "nothing".
    """

    name: str
    hub: str
    license: str
    agents: Mapping[str, str]


def card(run: Run, bases: Sequence[Base], versions: Mapping[str, str], *, name: str = "") -> str:
    """The README.md of a team's folder.

    Args:
        run: what its run recorded; settings without places on this machine.
        versions: of the libraries that wrote the folder.
        name: on the hub, where it is known.
    """
    title = str(run.settings.get("recipe", run.name))
    parts = [
        _front(bases),
        f"# {_plain(title)}",
        f"A team of {len(_team(bases))} language models that was trained by Madrigal to work together. Task: "
        f"{_plain(task_of(run))}. Agents: {', '.join(map(_plain, _team(bases)))}. What each of them is shown stands in "
        "[prompts.md](prompts.md), every setting in [experiment.json](experiment.json).",
        "## Use",
        "```python\nfrom madrigal import load_team\n\n"
        f'team = load_team("{name or "this/folder"}")\nprint(team.answer("...").text)\n```',
        "## Results",
        _results(run.evaluations),
        "## Training",
        _rows(("", ""), facts([run]).items()),
        "## Base models",
        _rows(("model", "license", "agents"), [(b.hub or b.name, b.license or UNKNOWN, _whose(b)) for b in bases]),
        "## Limits",
        "\n".join(f"- {sentence}" for sentence in LIMITS),
        "Made with " + ", ".join(f"{library} {version}" for library, version in versions.items()) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _front(bases: Sequence[Base]) -> str:
    """What the hub reads: JSON values are YAML, too."""
    licenses = {base.license for base in bases}
    whole = HUB_LICENSES.get(licenses.pop() if len(licenses) == 1 else "", "other")
    fields: dict[str, Any] = {"license": whole, "library_name": "madrigal", "pipeline_tag": "text-generation"}
    if known := [base.hub for base in bases if base.hub]:
        fields |= {"base_model": known}
    fields |= {"tags": list(TAGS)}
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in fields.items()), "---"])


def _team(bases: Sequence[Base]) -> list[str]:
    return list(dict.fromkeys(agent for base in bases for agent in base.agents))


def _whose(base: Base) -> str:
    return ", ".join(f"{agent} ({there} in this folder)" for agent, there in base.agents.items())


def _results(evaluations: Mapping[str, Record]) -> str:
    times = [when for when in TIMES if when in evaluations]
    if not times:
        return "No held-out evaluation was recorded."
    counts = sorted({evaluations[when]["examples"] for when in times})
    known = {name for when in times for name in evaluations[when]["components"]}
    names = [name for name in shown(known) if name != "return_percent"]
    rows = [("return, % of the best", *(_interval(evaluations[when]) for when in times))]
    rows += [(_named(name), *(_interval(evaluations[when], name) for when in times)) for name in names]
    examples = " and ".join(map(str, counts))
    return f"Means on {examples} held-out examples, with 95 % intervals.\n\n" + _rows(("", *times), rows)


def _named(component: str) -> str:
    return f"{component}, %" if component in PERCENTS else component


def _interval(result: Record, component: str = "") -> str:
    """A mean and its interval; "" where it was not measured."""
    if component:
        mean = result["components"].get(component)
        low, high = (result.get("intervals") or {}).get(component) or (None, None)
    else:
        mean, low, high = result["return_percent"], result["low"], result["high"]
    if not is_number(mean):
        return ""
    digits = 2 if component and component not in PERCENTS else 1
    around = f" [{low:.{digits}f}, {high:.{digits}f}]" if is_number(low) and is_number(high) else ""
    return f"{mean:.{digits}f}{around}"


def _rows(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(value: object) -> str:
    r"""A text for a cell of a Markdown table: one line, and no markup.

    >>> _plain("a|b\n<i>")
    'a\\|b &lt;i&gt;'
    """
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "|`[]*\\" else c for c in text)


def prompts(shown_to: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """The prompts.md of a team's folder: who speaks when, and what each agent is shown.

    Args:
        shown_to: the turns of an episode, each with agent, round and prompt.
        settings: of the experiment.
    """
    parts = [
        "# Prompts",
        "What every agent is shown, in the order in which they speak. What stands in {braces} comes with the question, "
        "or is what was said before.",
        f"Topology: `{json.dumps(settings.get('topology'))}`",
        f"Sampling: `{json.dumps(settings.get('sampling'))}`",
        *_told(shown_to),
    ]
    return "\n\n".join(parts) + "\n"


def _told(turns: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not turns:
        yield "This task makes its prompts of its data alone; play it to see them."
    for number, turn in enumerate(turns, start=1):
        yield f"## {number}. {_plain(turn['agent'])}, round {turn['round'] + 1}"
        for message in turn["prompt"]:
            yield f"{message['role']}:"
            yield "\n".join(f"    {line}" for line in str(message["content"]).splitlines())

"""What the keys of steps.jsonl are called on a page, their units, and where they stand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """A heading, a unit and one sentence for a key; `*` in a key stands for an agent, a policy or a part."""

    title: str
    unit: str = ""
    text: str = ""


OUTCOME, AGENTS, LEARNING, MORE = "Return and components", "Agents", "Learning", "Other records"
SECTIONS = (OUTCOME, AGENTS, LEARNING, MORE)
FIRST_PARTS = {"reward": OUTCOME, "component": OUTCOME, "agent": AGENTS, "update": LEARNING, "group": LEARNING}

MEANINGS: dict[str, Meaning] = {
    "component/return_percent": Meaning("Return", "%", "In percent of the best, in the last round."),
    "component/faithfulness": Meaning("Faithfulness", "%", "Content words that the source supports."),
    "component/faithfulness/*": Meaning("Faithfulness of each agent", "%", "Content words that the source supports."),
    "component/fluency": Meaning("Fluency", "nats per token", "Mean log-prob under the base model; low in word salad."),
    "component/fluency/*": Meaning("Fluency of each agent", "nats per token", "Mean log-prob under the base model."),
    "component/rouge1": Meaning("ROUGE-1", "%", "F1 against a given text."),
    "component/rouge2": Meaning("ROUGE-2", "%", "F1 against a given text."),
    "component/rouge_l": Meaning("ROUGE-L", "%", "F1 against a given text."),
    "reward": Meaning("Reward", "", "Mean joint reward of a round."),
    "agent/*/reward": Meaning("Reward of each agent", "", "Mean over rounds."),
    "agent/*/tokens": Meaning("Length", "tokens", "Mean length of an answer."),
    "agent/*/truncated_fraction": Meaning("Cut off", "share", "Answers that the length limit ended."),
    "agent/*/seconds": Meaning("Answer time", "s", "From request to last token, in a batch."),
    "agent/*/cost": Meaning("Cost", "", "Of a step's answers by an endpoint, by the prices of the settings."),
    "agent/*/cached_fraction": Meaning("Kept answers", "share", "Answers of an endpoint that were kept from before."),
    "agent/*/prompt_tokens": Meaning("Prompt", "tokens", "Mean length of a prompt, as an endpoint counts."),
    "agent/*/retries": Meaning("Asked again", "", "How often a server was asked again for an answer."),
    "update/*/entropy": Meaning("Entropy", "nats", "Mean over sampled tokens; near 0 nothing is explored."),
    "update/*/kl": Meaning("KL to the reference", "nats per token", "How far the policy has moved."),
    "update/*/loss": Meaning("Loss", "", "What was minimized."),
    "update/*/gradient_norm": Meaning("Gradient norm", "", "Before clipping."),
    "update/*/approx_kl": Meaning("KL to the sampler", "nats per token", "How far one step's updates have moved."),
    "update/*/clip_fraction": Meaning("Clipped", "share", "Tokens whose ratio was out of the clip range."),
    "update/*/value": Meaning("Value", "", "What critics expect, mean."),
    "update/*/explained_variance": Meaning(
        "Explained variance", "share", "Of returns, by critics; below 0 they do harm."
    ),
    "update/*/logprob_mismatch": Meaning(
        "Sampler mismatch", "nats per token", "Log-probs at sampling against those at training; should be near 0."
    ),
    "update/*/logprob_mismatch_max": Meaning("Largest sampler mismatch", "nats", "The same, of the worst token."),
    "update/*/importance_weight": Meaning("Importance weight", "", "Learner over sampler, mean over tokens."),
    "update/*/importance_capped": Meaning("Capped weights", "share", "Tokens whose importance weight is at the cap."),
    "update/*/lr": Meaning("Learning rate"),
    "algorithm/information": Meaning(
        "Information of role and words", "nats", "A lower bound on how far answers tell who gave them."
    ),
    "group/zero_advantage_fraction": Meaning(
        "Equal answers", "share", "Answers with advantage 0: nothing is learned from them."
    ),
    "group/return_std": Meaning("Spread in a group", "", "Standard deviation of returns, mean over groups."),
    "tokens_per_second": Meaning("Speed", "tokens/s", "The whole step: play, judging and update."),
    "seconds": Meaning("Time of a step", "s"),
    "tokens": Meaning("Tokens of a step", "tokens"),
    "episodes": Meaning("Episodes of a step"),
    "update/*/sequences": Meaning("Answers in a stage"),
    "update/*/tokens": Meaning("Tokens in a stage", "tokens"),
}
# These say again what others say, or change little: they stand apart.
MINOR = {"tokens_per_second", "seconds", "tokens", "episodes"}
MINOR |= {"update/*/logprob_mismatch_max", "update/*/importance_capped"}
MINOR |= {
    "agent/*/cached_fraction",
    "agent/*/prompt_tokens",
    "update/*/lr",
    "update/*/sequences",
    "update/*/tokens",
    "agent/*/seconds",
}
SCHEME = "component/scheme/*"


def place(key: str) -> tuple[str, str]:
    """Parts a key into what is measured and whose it is.

    >>> place("agent/ann/tokens"), place("component/words/bob"), place("reward")
    (('agent/*/tokens', 'ann'), ('component/words/*', 'bob'), ('reward', ''))
    """
    first, *rest = key.split("/")
    if first in {"agent", "update"} and len(rest) > 1:
        return "/".join([first, "*", *rest[1:]]), rest[0]
    if first == "component" and len(rest) > 1:
        return f"component/{rest[0]}/*", "/".join(rest[1:])
    return key, ""


def meaning(pattern: str) -> Meaning:
    """What a pattern is called; one that is not known by its own name."""
    named = pattern.removeprefix("component/").removesuffix("/*").replace("*/", "").replace("_", " ")
    return MEANINGS.get(pattern, Meaning(named[:1].upper() + named[1:]))


def section(pattern: str) -> str:
    """The section of the page that a pattern belongs to."""
    if pattern in MINOR:
        return MORE
    return FIRST_PARTS.get(pattern.partition("/")[0], MORE)

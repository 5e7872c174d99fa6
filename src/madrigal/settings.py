"""Settings of everything around task, topology and algorithm, each stated once, with its meaning and its check."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from madrigal.types import ConfigError

EPSILON = 1e-4  # added to a deviation before an advantage is divided by it, as in TRL


@dataclass(frozen=True, slots=True)
class Lora:
    """A low-rank adapter (Hu et al., 2021, arXiv:2106.09685).

    Attributes:
        rank: of the update; 0 trains the weights themselves instead of an adapter.
        alpha: the update is scaled by alpha / rank.
        targets: the modules that are adapted; empty means all linear layers.
    """

    rank: int = 0
    alpha: int = 32
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"lora.rank: expected 0 (no adapter) or more, got {self.rank}")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What makes a policy answer.

    Attributes:
        kind: "local" samples in this process with the weights that learn; "vllm" has vLLM hold a copy of them in this
            process; "server" asks a running server of vLLM, as `madrigal engine serve` starts one, or of SGLang.
            Policies with adapters on one model share an engine.
        url: of the server, like http://127.0.0.1:8000.
        key_variable: the environment variable that holds the server's key, if it wants one.
        cache_gb: memory for keys and values of "vllm", on its device.
        files: the folder through which a server is handed weights, for both sides to see under one name; "" is a
            temporary one, of this machine.
        transfer: how a server of vLLM is handed whole weights: by "files", or by a process "group" of learner and
            server, NCCL between GPUs and gloo elsewhere. Adapters go by files.
        seconds: how long a server may take for one answer, or to load weights; asked again where that may help.
        connections: answers that a server is asked for at a time.
    """

    kind: Literal["local", "vllm", "server"] = "local"
    url: str = ""
    key_variable: str = "MADRIGAL_ENGINE_KEY"
    cache_gb: float = 1.0
    files: str = ""
    transfer: Literal["files", "group"] = "files"
    seconds: float = 600.0
    connections: int = 64

    section: ClassVar[str] = "engine"
    remedy: ClassVar[str] = "is it running? start one with: madrigal engine serve"

    def __post_init__(self) -> None:
        for name, value in (("cache_gb", self.cache_gb), ("seconds", self.seconds)):
            if not 0 < value < math.inf:
                raise ConfigError(f"engine.{name}: expected a positive number, got {value}")
        if self.connections < 1:
            raise ConfigError(f"engine.connections: expected at least 1, got {self.connections}")
        if self.kind == "server" or self.url:
            _check_url(self.url, self.section, "http://127.0.0.1:8000")

    @property
    def base(self) -> str:
        """The address that paths are added to."""
        return self.url.rstrip("/").removesuffix("/v1")

    @property
    def name(self) -> str:
        """What errors call it."""
        return {"local": "the local engine", "vllm": "vLLM"}.get(self.kind, f"the server at {self.url}")


def _check_url(url: str, section: str, like: str) -> None:
    """Refuses what is no address of a server, or one with a password in it: runs write down their settings."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
    except ValueError:
        whole = plain = False
    if not (whole and plain):
        shown = url.rpartition("@")[2]
        raise ConfigError(
            f"{section}.url: expected the address of a server, like {like}, got {shown!r}; a key goes into the "
            f"variable that {section}.key_variable names"
        )


@dataclass(frozen=True, slots=True)
class RemoteConfig:
    """An endpoint of OpenAI's protocol that speaks for a seat in texts, and does not learn.

    Attributes:
        url: what stands before /chat/completions, like http://127.0.0.1:9000/v1; "" is none.
        model: the name that the endpoint knows the model by.
        api: "chat" asks /chat/completions, "responses" asks /responses, which takes no seeds.
        key_variable: the environment variable that holds the key, if it wants one. A key is sent to the endpoint alone
            and stands in no record.
        seconds: how long it may take for one answer; asked again where that may help.
        connections: answers that it is asked for at a time.
        per_minute: requests that are begun in any minute, those that are made again among them; 0 does not limit them.
        prompt_price, answer_price: of a million tokens, in any currency; a run counts what it cost.
        cache: a folder in which answers are kept by what was asked, so that a run asks for none twice; "" keeps none.
    """

    url: str = ""
    model: str = ""
    api: Literal["chat", "responses"] = "chat"
    key_variable: str = "MADRIGAL_REMOTE_KEY"
    seconds: float = 120.0
    connections: int = 8
    per_minute: int = 0
    prompt_price: float = 0.0
    answer_price: float = 0.0
    cache: str = ""

    section: ClassVar[str] = "remote"
    remedy: ClassVar[str] = "is it running, and is remote.url right?"

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ConfigError(f"remote.seconds: expected a positive number, got {self.seconds}")
        _check_least("remote", 1, connections=self.connections)
        _check_least("remote", 0, per_minute=self.per_minute)
        _check_least("remote", 0, prompt_price=self.prompt_price, answer_price=self.answer_price)
        if self.url:
            _check_url(self.url, self.section, "http://127.0.0.1:9000/v1")
        if bool(self.url) != bool(self.model):
            raise ConfigError(
                f"remote: expected a url and a model, got the url {self.url.rpartition('@')[2]!r} and the model "
                f"{self.model!r}; name both"
            )

    @property
    def base(self) -> str:
        """The address that paths are added to."""
        return self.url.rstrip("/")

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.model} at {self.url}"


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """Which model sits in a seat.

    Attributes:
        model: "starter:small" or "starter:large" (shipped), a name of `madrigal models`, a local folder, a .gguf file
            (Llama, Qwen2, Qwen3; made float32), or a hub name.
        trainable: False keeps the weights as they are.
        lora: an adapter to train instead of the weights themselves.
        dtype: "auto" is bfloat16 on a GPU; on a processor it is so for models of 50 M parameters or more, where a quick
            measurement finds its products at least 1.5 times as fast as those of float32; else float32.
        pad_token: what to pad with where the tokenizer names nothing.
        engine: what makes it answer; it learns in this process.
        remote: an endpoint that speaks instead of a model.
        script: a Python function `answer(messages, seed)` that speaks instead, as file.py:function.

    Who speaks instead of a model does not learn, whatever is said of models here.
    """

    model: str = "starter:small"
    trainable: bool = True
    lora: Lora = field(default_factory=Lora)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    pad_token: str = ""
    engine: EngineConfig = field(default_factory=EngineConfig)
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    script: str = ""

    def __post_init__(self) -> None:
        if not self.outside:
            return
        if self.remote.url and self.script:
            raise ConfigError(
                f"script: {self.remote.name} speaks already, and so would {self.script}; take one of them"
            )
        # A seat takes over from team.policy what is not said of it; nothing of that is about an endpoint or a function.
        for name, value in {"model": "", "trainable": False, "lora": Lora(), "engine": EngineConfig()}.items():
            object.__setattr__(self, name, value)

    @property
    def outside(self) -> bool:
        """Whether an endpoint or a function speaks, and no model of this process."""
        return bool(self.remote.url or self.script)

    @property
    def speaker(self) -> str:
        """Who speaks, in a few words."""
        return self.remote.name if self.remote.url else self.script or self.model


@dataclass(frozen=True, slots=True)
class PartnerConfig:
    """Older selves of the team in one of its seats. From no paper: SPIRAL plays its present self alone.

    Attributes:
        share: of the groups that are played with a partner, 0 to 1; 0 is pure self-play.
        every: steps between two snapshots.
        keep: snapshots kept; the oldest is dropped. Each is a copy of all trainable weights, in the processor's memory.
    """

    share: float = 0.0
    every: int = 20
    keep: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"partners.share: expected 0 (none) to 1, got {self.share}")
        if self.every < 1 or self.keep < 1:
            raise ConfigError("partners.every and partners.keep: expected at least 1")


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
        if self.shared and self.policy.outside:
            raise ConfigError(
                f"team.shared: one policy is to learn in all seats, and {self.policy.speaker} does not learn; name it "
                "for single seats, as in team.seats.AGENT.remote.url"
            )
        if self.partners.share and self.rounds > 1:
            raise ConfigError("team.partners: older selves have one policy for all rounds; leave team.rounds at 1")
        if self.partners.share and self.outside:
            raise ConfigError(
                f"team.partners: older selves play a team's own seats, and {next(iter(self.outside.values())).speaker} "
                "has none; leave team.partners.share at 0"
            )

    @property
    def outside(self) -> dict[str, PolicyConfig]:
        """By the setting that names them, policies that are no models of this process; each of them once."""
        named = {"team.policy": self.policy, **{f"team.seats.{agent}": one for agent, one in self.seats.items()}}
        first = {(one.remote, one.script): name for name, one in reversed(named.items())}
        return {name: one for name, one in named.items() if one.outside and first[one.remote, one.script] == name}

    @property
    def servers(self) -> tuple[EngineConfig, ...]:
        """The servers that policies are to speak by."""
        engines = dict.fromkeys(policy.engine for policy in (self.policy, *self.seats.values()))
        return tuple(engine for engine in engines if engine.kind == "server")


@dataclass(frozen=True, slots=True)
class RolesConfig:
    """A word before each agent's prompts that tells it from the others, and that nobody explains (`tasks.roles`).

    Attributes:
        names: of the roles, one word each, 2 up to as many as there are agents; with fewer, agents share one. Empty
            leaves prompts as the task has them.
        deal: who has which: "all" plays every example once with each way round, so that the role decides and not the
            seat; "seat" gives each seat the same one in all examples.
    """

    names: tuple[str, ...] = ()
    deal: Literal["all", "seat"] = "all"

    def __post_init__(self) -> None:
        for name in self.names:
            if not re.fullmatch(r"\S{1,32}", name) or not name.isprintable():
                raise ConfigError(f"roles.names: expected words of up to 32 letters without blanks, got {name!r:.60}")
        if twice := [name for n, name in enumerate(self.names) if name in self.names[:n]]:
            raise ConfigError(f"roles.names: expected different words, got {twice[0]} twice")
        if len(self.names) == 1:
            raise ConfigError(f"roles.names: one role tells nobody apart; give another one beside {self.names[0]}")


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """The weights of the joint reward, and its units; as it comes it is the task's own reward, and nothing is measured.

    Attributes:
        quality: weight of the task's own reward.
        speed: weight of the response time.
        cost: weight of the coordination cost.
        clock: what response time is counted in. "tokens" is what decentralized models would have to generate one
            after the other: the same on every machine and in every batch. "seconds" is as measured, batches included.
        time_unit: the response that costs 1 before its weight, in units of the clock.
        message: the cost of one message, that is of every turn with words in it.
        word: the cost of one word in a message.
        redundancy: the cost of messages that all say the same; see `rollouts.rewards.overlap`.
        ngram: how many words in a row must be the same to count as repeated.
        fluency: weight of the fluency of what was said, in nats per token; see `learning.fluency`.
        share: who is paid what in training: what the task says, or each agent the "difference" that its words make to
            all of this (see `rollouts.rewards.difference_rewards`).
    """

    quality: float = 1.0
    speed: float = 0.0
    cost: float = 0.0
    clock: Literal["tokens", "seconds"] = "tokens"
    time_unit: float = 100.0
    message: float = 0.1
    word: float = 0.001
    redundancy: float = 1.0
    ngram: int = 2
    fluency: float = 0.0
    share: Literal["task", "difference"] = "task"

    def __post_init__(self) -> None:
        _check_least("reward", 0, quality=self.quality, speed=self.speed, cost=self.cost, fluency=self.fluency)
        _check_least("reward", 0, message=self.message, word=self.word, redundancy=self.redundancy)
        if not 0 < self.time_unit < math.inf:
            raise ConfigError(f"reward.time_unit: expected a positive number of {self.clock}, got {self.time_unit}")
        if self.ngram < 1:
            raise ConfigError(f"reward.ngram: expected at least 1 word, got {self.ngram}")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        temperature: divides the logits; 1.0 samples the model's own distribution.
        top_p: keep the smallest set of most likely tokens whose probability reaches this; 1.0 keeps all.
        top_k: keep this many most likely tokens; 0 keeps all.
        max_new_tokens: the longest answer, end token included.
        greedy: take the most likely token instead of drawing one.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    greedy: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"sampling.temperature: expected more than 0 and finite, got {self.temperature}; for the most likely "
                "answer set greedy"
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"sampling.top_p: expected more than 0 and at most 1, got {self.top_p}")
        if self.top_k < 0:
            raise ConfigError(f"sampling.top_k: expected 0 (keep all) or more, got {self.top_k}")
        if self.max_new_tokens < 1:
            raise ConfigError(f"sampling.max_new_tokens: expected at least 1, got {self.max_new_tokens}")


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """AdamW and all that surrounds a step.

    Attributes:
        lr: peak learning rate; None is one that fits each model and whether an adapter is trained, see
            `learning.rates.learning_rate`. A run says which.
        weight_decay: decoupled.
        betas: of the two moment averages.
        clip_norm: the largest gradient norm; larger gradients are scaled down to it.
        warmup: training steps of linear rise from 0.
        lr_schedule: after the warm-up, the rate stays, or falls linearly or by a cosine to `min_lr_ratio` of the peak,
            which the last training step has. All optimizer steps of one training step have the same rate.
        min_lr_ratio: the last rate as a share of the peak, 0 to 1.
        token_budget: the most padded tokens in one micro-batch; fewer where memory is short (`Experiment.memory`).
            Memory depends on it; the gradient to rounding only, which AdamW's first steps, each as long as the rate,
            turn into other weights where a gradient is near 0.
        step_backs: how often a run whose KL or entropy jumps (`evaluation.early`) goes back to the last checkpoint
            before that, and on with half the rate; 0 only warns.
        gradient_checkpointing: recompute activations instead of storing them, even where memory suffices.
        mismatch_tolerance: the largest mean difference, in nats per token, between log-probs at sampling and at
            training before the update is refused: proof that the sampler holds the newest weights. A single token may
            differ by 50 times as much. None picks 0.01 in float32, 0.002 of an engine with a copy of the weights, and
            0.1 in bfloat16.
        importance_cap: weigh each token by the chance that the learner gives it over that which the sampler gave it,
            but by no more than this, where the two compute in other ways (`learning.importance`); None leaves it.
    """

    lr: float | None = None
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    warmup: int = 0
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    min_lr_ratio: float = 0.0
    token_budget: int = 4096
    step_backs: int = 0
    gradient_checkpointing: bool = False
    mismatch_tolerance: float | None = None
    importance_cap: float | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("lr", self.lr),
            ("clip_norm", self.clip_norm),
            ("mismatch_tolerance", self.mismatch_tolerance),
            ("importance_cap", self.importance_cap),
        ):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"optimizer.{name}: expected a positive number, got {value}")
        if not self.min_lr_ratio <= 1:
            raise ConfigError(f"optimizer.min_lr_ratio: expected a share of the peak, 0 to 1, got {self.min_lr_ratio}")
        _check_least("optimizer", 0, weight_decay=self.weight_decay, warmup=self.warmup, min_lr_ratio=self.min_lr_ratio)
        _check_least("optimizer", 0, step_backs=self.step_backs)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas: expected two numbers from 0 to below 1, got {self.betas}")
        if self.token_budget < 1:
            raise ConfigError(f"optimizer.token_budget: expected at least 1 token, got {self.token_budget}")

    def scale(self, step: int, steps: int) -> float:
        """The learning rate of one training step, of `steps` counted from 0, as a share of the peak."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = min(1.0, (step - self.warmup) / max(1, steps - 1 - self.warmup))
        falling = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * falling[self.lr_schedule]


@dataclass(frozen=True, slots=True)
class WarmConfig:
    """The warm start: before RL each seat is fine-tuned on the best of n joint answers, or on demonstrations.

    Attributes:
        examples: training examples that are played for it, more than there are in further passes; 0 makes no warm
            start. With `demonstrations` so many of them, 0 is all.
        samples: joint answers to each example; the best is learned from, where it is better than their mean.
        demonstrations: a file of given answers instead, one JSON object per line: {"id": of a training example,
            "answers": {agent: a text, or a list with one for each round, "" for silence}}; "embedded" are those that a
            task brings.
        epochs: passes over what was kept.
        batch: joint answers in one optimizer step.
        lr: learning rate, the same in all steps; None is one that fits each model (`learning.rates.learning_rate`).
            All else about the optimizer is as for RL, which begins with fresh moments.
    """

    examples: int = 0
    samples: int = 8
    demonstrations: str = ""
    epochs: int = 3
    batch: int = 8
    lr: float | None = None

    def __post_init__(self) -> None:
        _check_least("warm", 0, examples=self.examples)
        _check_least("warm", 1, epochs=self.epochs, batch=self.batch)
        _check_least("warm", 2, samples=self.samples)
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ConfigError(f"warm.lr: expected a positive number, or None for one by size, got {self.lr}")

    @property
    def wanted(self) -> bool:
        """Whether there is a warm start."""
        return bool(self.examples or self.demonstrations)


@dataclass(frozen=True, slots=True)
class CriticConfig:
    """The critic, of algorithms that learn with one; others leave it unused.

    Attributes:
        model: any that a policy may have; "" is the model of the policy it judges, of the first one if it judges all.
        lora: train an adapter and the head only. On the model of a policy that is an adapter itself, the critic shares
            that policy's copy of it; else it has a copy of its own.
        lr: the peak learning rate; None is the policies' own, as in CoLLM (5e-6 both); C3's critics have 5e-5 beside
            1e-6. All else about the optimizer is as for the policies.
    """

    model: str = ""
    lora: Lora = field(default_factory=Lora)
    lr: float | None = None

    def __post_init__(self) -> None:
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ConfigError(f"critic.lr: expected a positive number, or None for the policies' own, got {self.lr}")


BASE = "base"  # as the model that measures fluency: that of `team.policy`


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """How a team is evaluated.

    Attributes:
        examples: held-out examples that are played; the first so many of the test split.
        samples: how often each of them is played; several give pass@k, best of n and tighter means.
        every: also evaluate after so many steps; 0 evaluates before and after training only, or with `keep` "best"
            after every tenth of the steps.
        keep: whose weights become the team: those of the "last" step, or of the step with the "best" return on the
            validation split. The latter plays validation examples at step 0, `every` so many steps and at the last, and
            the test split only before training and in the end, with the weights that were chosen.
        patience: with "best", training ends after so many validation evaluations without a better one; 0 never.
        timed_examples: examples played one at a time, and one agent at a time, to measure response time; batched play
            would hide it, and agents that share a processor would slow each other down.
        fluency: the model by which the fluency of answers is measured; "base" is that of `team.policy`, as it was
            before training, and "" measures none.
    """

    examples: int = 100
    samples: int = 1
    every: int = 0
    timed_examples: int = 8
    keep: Literal["last", "best"] = "last"
    patience: int = 0
    fluency: str = ""

    def __post_init__(self) -> None:
        _check_least("evaluation", 1, examples=self.examples, samples=self.samples)
        _check_least("evaluation", 0, every=self.every, timed_examples=self.timed_examples, patience=self.patience)
        if self.patience and self.keep != "best":
            raise ConfigError("evaluation.patience: stopping early needs validation; set evaluation.keep to best")

    def interval(self, steps: int) -> int:
        """Steps from one evaluation to the next in a run of so many; 0 makes none in between."""
        return self.every or (-(-steps // 10) if self.keep == "best" else 0)


@dataclass(frozen=True, slots=True)
class RecordsConfig:
    """What is written down while training.

    Attributes:
        checkpoint_every: steps between checkpoints; 0 saves only by the clock, at the end and on Ctrl-C.
        checkpoint_minutes: also after the first step that ends so long after the last checkpoint; 0 leaves the clock
            out.
        keep: checkpoints kept.
        transcripts: episodes of each step written to episodes.jsonl.
        trackers: also send the numbers, and as many transcripts of each evaluation, to these, where installed.
    """

    checkpoint_every: int = 25
    checkpoint_minutes: float = 10.0
    keep: int = 2
    transcripts: int = 2
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()

    def __post_init__(self) -> None:
        _check_least("records", 0, checkpoint_every=self.checkpoint_every, transcripts=self.transcripts)
        _check_least("records", 0, checkpoint_minutes=self.checkpoint_minutes)
        _check_least("records", 1, keep=self.keep)


@dataclass(frozen=True, slots=True)
class ClusterSeat:
    """Where the learner of one policy or critic works.

    Attributes:
        node: an address of a node, or a resource that it was started with (ray start --resources '{"big": 1}'); ""
            leaves the choice to Ray.
    """

    node: str = ""


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Ray, which spreads a run over processes and machines: rollout workers, and a learner for each policy and critic.

    Attributes:
        address: "" trains in this process, "local" starts Ray on this machine alone; "auto" joins the one that runs
            here, HOST:PORT or ray://HOST:PORT one elsewhere.
        workers: processes that answer and judge, each with all policies and the task.
        lanes: shares of the episodes that are played at once for each worker; with 2 it judges one while it answers in
            the other.
        gpus_per_worker: what each takes; 0.5 lets two share one, 0 is the processor.
        gpus_per_learner: what each learner takes, or each of its ranks.
        ranks_per_learner: processes that hold the learner of a policy or critic together, each a share of its weights,
            gradients and moments (FSDP2).
        seats: where learners work, by the name of the policy or critic.
        staleness: steps that play may be ahead of learning; 0 is exact. With 1 the next step is played, with the
            weights of now, while learners learn from this one; the loss needs a clipped ratio then.
        open: join a cluster that other machines can reach. Its traffic is not encrypted.
    """

    address: str = ""
    workers: int = 1
    lanes: int = 1
    gpus_per_worker: float = 0.0
    gpus_per_learner: float = 0.0
    ranks_per_learner: int = 1
    seats: dict[str, ClusterSeat] = field(default_factory=dict)
    staleness: int = 0
    open: bool = False

    def __post_init__(self) -> None:
        _check_least("cluster", 1, workers=self.workers, lanes=self.lanes, ranks_per_learner=self.ranks_per_learner)
        _check_least("cluster", 0, staleness=self.staleness)
        for name, gpus in (("gpus_per_worker", self.gpus_per_worker), ("gpus_per_learner", self.gpus_per_learner)):
            if not (0 <= gpus <= 1):
                raise ConfigError(f"cluster.{name}: expected a share of one GPU, 0 to 1, got {gpus}")
        known = self.address in ("", "local", "auto")
        if not known and not re.fullmatch(r"(ray://)?[\w.-]+:\d{1,5}", self.address):
            raise ConfigError(
                f"cluster.address: expected local, auto, HOST:PORT or ray://HOST:PORT, got {self.address!r}"
            )
        if self.staleness and not self.address:
            raise ConfigError("cluster.staleness: play runs ahead of learning on a cluster only; add --cluster local")


def _check_least(section: str, least: int, **values: float) -> None:
    """Refuses settings of a section that are below `least`, infinite or not a number."""
    for name, value in values.items():
        if not least <= value < math.inf:
            raise ConfigError(
                f"{section}.{name}: expected {f'at least {least}' if least else '0 or more'}, got {value}"
            )

"""The learner of one policy: samples in, better weights out; blind to the algorithm.

Knows: token ids, advantages, a loss, an optimiser. Does not know: agents, tasks, how advantages came about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from madrigal.batch import Batch, PolicyOutput, make_batch, micro_batches
from madrigal.losses import Chosen, k3
from madrigal.policies.local import LocalPolicy
from madrigal.policies.reading import logits_before_actions, logits_in_one_pass
from madrigal.sampling import Sampling, warp
from madrigal.types import ConfigError, Sample, TrainingError

LossFunction = Callable[[PolicyOutput, Batch], Tensor]


@dataclass(frozen=True, slots=True)
class Optimiser:
    """AdamW and all that surrounds a step.

    Attributes:
        lr: peak learning rate.
        weight_decay: decoupled.
        betas: of the two moment averages.
        clip_norm: the largest gradient norm; larger gradients are scaled down to it.
        warmup: steps of linear rise from 0.
        schedule: after the warm-up, the rate stays, or falls linearly or by a cosine to `floor` of the peak.
        floor: the last rate as a share of the peak.
        token_budget: the most padded tokens in one micro-batch; memory, never the result, depends on it.
        gradient_checkpointing: recompute activations instead of storing them.
        stale_tolerance: the largest mean difference, in nats per token, between log-probs at sampling and at training
            before the update is refused: proof that the sampler holds the newest weights. None picks 0.01 in float32
            and 0.1 in bfloat16.
    """

    lr: float = 5e-6
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    warmup: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    floor: float = 0.0
    token_budget: int = 4096
    gradient_checkpointing: bool = False
    stale_tolerance: float | None = None

    def __post_init__(self) -> None:
        for name in ("lr", "clip_norm"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"optimiser.{name}: expected a positive number, got {value}")
        for name in ("weight_decay", "warmup", "floor"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"optimiser.{name}: expected 0 or more, got {getattr(self, name)}")
        if self.token_budget < 1:
            raise ConfigError(f"optimiser.token_budget: expected at least 1 token, got {self.token_budget}")

    def scale(self, step: int, steps: int) -> float:
        """The learning rate of one update as a share of the peak."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        falling = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
        return self.floor + (1 - self.floor) * falling[self.schedule]


class Learner:
    """Owns the optimiser of one trainable policy."""

    def __init__(
        self,
        policy: LocalPolicy,
        config: Optimiser,
        sampling: Sampling,
        steps: int,
        *,
        reference: bool = False,
    ) -> None:
        """Prepares updates of `policy`; `steps` is the planned number of them, for the schedule."""
        self.policy, self.config, self.sampling, self.reference = policy, config, sampling, reference
        self.parameters = policy.parameters()
        # bfloat16 has 8 bits of precision: steps of 5e-6 would be rounded away, so the optimiser moves float32 copies.
        self.masters = {n: p if p.dtype == torch.float32 else p.detach().float() for n, p in self.parameters.items()}
        self.optimiser = AdamW(
            self.masters.values(),
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=policy.device.type == "cuda",
        )
        self.schedule = LambdaLR(self.optimiser, lambda step: config.scale(step, steps))
        if reference:
            policy.keep_reference()
        if config.gradient_checkpointing:
            policy.model.gradient_checkpointing_enable()

    def update(self, stages: Sequence[Sequence[Sample]], loss: LossFunction) -> dict[str, float]:
        """Makes one optimiser step per stage and returns means over the stages.

        Raises:
            TrainingError: if the loss or gradient is not finite, or the samples did not come from these weights;
                the optimiser has not moved then.
        """
        with self._recomputing():
            spoken = [stage for stage in stages if _tokens(stage)]
            rows = [self._step(stage, loss, first=n == 0) for n, stage in enumerate(spoken)]
        if not rows:
            return {}
        return {key: sum(row.get(key, 0.0) for row in rows) / len(rows) for key in rows[0]}

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        """Gradient checkpointing works in training mode only; with dropout the check for staleness would fail."""
        self.policy.model.train(self.config.gradient_checkpointing)
        try:
            yield
        finally:
            self.policy.model.eval()

    def _step(self, samples: Sequence[Sample], loss: LossFunction, *, first: bool) -> dict[str, float]:
        sequences, tokens = len(samples), _tokens(samples)
        self._forget_gradients()
        sums = {"loss": 0.0, "entropy": 0.0, "stale": 0.0}
        for piece in micro_batches(samples, self.config.token_budget):
            batch = make_batch(piece, self.policy.tokenizer.pad_token_id, sequences, tokens, self.policy.device)
            batch = self._with_reference(batch)
            output = self.score(batch)
            value = loss(output, batch)
            value.backward()  # type: ignore[no-untyped-call]
            self._collect_gradients()
            sums["loss"] += float(value.detach())
            sums["entropy"] += float((output.entropy * batch.mask).sum()) / tokens
            moved = (output.logprobs.detach() - batch.old_logprobs).abs()
            sums["stale"] += float((moved * batch.mask).sum()) / tokens
            if batch.reference_logprobs is not None:
                drift = k3(output.logprobs.detach(), batch.reference_logprobs)
                sums["kl"] = sums.get("kl", 0.0) + float((drift * batch.mask).sum()) / tokens
        if first:
            self._check_fresh(sums["stale"])
        norm = self._gradient_norm(sums["loss"])
        lr = self.optimiser.param_groups[0]["lr"]
        self._move()
        self.schedule.step()
        self.policy.version += 1
        return {**sums, "gradient_norm": norm, "lr": lr, "sequences": sequences, "tokens": tokens}

    def _collect_gradients(self) -> None:
        """Adds up the gradients of micro-batches in float32, so that their number never matters."""
        for name, master in self.masters.items():
            parameter = self.parameters[name]
            if parameter is not master and parameter.grad is not None:
                more = parameter.grad.float()
                master.grad = more if master.grad is None else master.grad.add_(more)
                parameter.grad = None

    def _move(self) -> None:
        """One step of the optimiser on the float32 masters; the model's weights follow."""
        self.optimiser.step()
        self._follow_masters()

    @torch.no_grad()
    def _follow_masters(self) -> None:
        for name, parameter in self.parameters.items():
            if parameter is not self.masters[name]:
                parameter.copy_(self.masters[name])
                self.masters[name].grad = None

    def _forget_gradients(self) -> None:
        for parameter in (*self.parameters.values(), *self.masters.values()):
            parameter.grad = None

    def _gradient_norm(self, loss: float) -> float:
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters.values(), self.config.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._forget_gradients()
            raise TrainingError(
                f"policy {self.policy.name}: the loss is {loss} and the gradient norm {norm}, expected finite numbers; "
                "the weights were not changed; lower optimiser.lr or look at the rewards of this step"
            )
        return norm

    def _check_fresh(self, stale: float) -> None:
        """The sampler must hold these very weights: the same tokens must have the same log-probs here as there."""
        usual = 0.01 if self.policy.model.dtype == torch.float32 else 0.1
        tolerance = usual if self.config.stale_tolerance is None else self.config.stale_tolerance
        if stale > tolerance:
            self._forget_gradients()
            raise TrainingError(
                f"policy {self.policy.name}: log-probs at sampling and at training differ by {stale:.4f} nats a token "
                f"(at most {tolerance} expected); the sampler does not hold the trained weights"
            )

    def score(self, batch: Batch, model: Any = None) -> PolicyOutput:
        """Log-probs and entropies of the sampled tokens under the policy's (or the given model's) weights."""
        model = self.policy.activate() if model is None else model
        # Recomputing activations and keeping a cache of them exclude each other.
        read = logits_in_one_pass if self.config.gradient_checkpointing else logits_before_actions
        actions = batch.actions[batch.mask]
        warped = warp(read(model, batch), self.sampling, keep=actions)
        logprobs, entropies = Chosen.apply(warped, actions)  # type: ignore[no-untyped-call]
        blank = torch.zeros(batch.mask.shape, dtype=logprobs.dtype, device=logprobs.device)
        return PolicyOutput(*(blank.masked_scatter(batch.mask, part) for part in (logprobs, entropies)))

    def _with_reference(self, batch: Batch) -> Batch:
        if not self.reference:
            return batch
        with torch.no_grad(), self.policy.reference() as model:
            return replace(batch, reference_logprobs=self.score(batch, model).logprobs)

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on with the very same numbers."""
        return {
            "parameters": {name: master.detach().cpu() for name, master in self.masters.items()},
            "optimiser": self.optimiser.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "version": self.policy.version,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up a state written by `state`.

        Raises:
            ConfigError: if its parameters are not those of this policy.
        """
        saved, mine = state["parameters"], self.parameters
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in mine.items()}:
            raise ConfigError(
                f"policy {self.policy.name}: the checkpoint holds other parameters than this model; resume with the "
                "settings that the run was started with"
            )
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(saved[name])
        self._follow_masters()
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        self.policy.version = state["version"]


def _tokens(samples: Sequence[Sample]) -> int:
    return sum(len(sample.turn.completion.token_ids) for sample in samples)

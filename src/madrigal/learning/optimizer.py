"""AdamW and all that surrounds a step of it; the same for policies and for critics.

Knows: parameters and their gradients. Does not know: models, batches, losses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import AdamW

from madrigal.types import ConfigError, TrainingError


@dataclass(frozen=True, slots=True)
class Optimiser:
    """AdamW and all that surrounds a step.

    Attributes:
        lr: peak learning rate.
        weight_decay: decoupled.
        betas: of the two moment averages.
        clip_norm: the largest gradient norm; larger gradients are scaled down to it.
        warmup: training steps of linear rise from 0.
        schedule: after the warm-up, the rate stays, or falls linearly or by a cosine to `floor` of the peak, which the
            last training step has. All optimizer steps of one training step have the same rate.
        floor: the last rate as a share of the peak, 0 to 1.
        token_budget: the most padded tokens in one micro-batch. Memory depends on it; the gradient to rounding only,
            which AdamW's first steps, each as long as the rate, turn into other weights where a gradient is near 0.
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
        if not self.floor <= 1:
            raise ConfigError(f"optimiser.floor: expected a share of the peak, 0 to 1, got {self.floor}")
        for name in ("weight_decay", "warmup", "floor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"optimiser.{name}: expected 0 or more, got {getattr(self, name)}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimiser.betas: expected two numbers from 0 to below 1, got {self.betas}")
        if self.token_budget < 1:
            raise ConfigError(f"optimiser.token_budget: expected at least 1 token, got {self.token_budget}")

    def scale(self, step: int, steps: int) -> float:
        """The learning rate of one training step, of `steps` counted from 0, as a share of the peak."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = min(1.0, (step - self.warmup) / max(1, steps - 1 - self.warmup))
        falling = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
        return self.floor + (1 - self.floor) * falling[self.schedule]


class Descent:
    """Moves parameters against their gradients, in float32 whatever the model computes in.

    Attributes:
        owner: whose parameters they are, for errors: "policy ann".
        moves: optimizer steps made since it was made.
        masters: what the optimiser moves, by name. bfloat16 has 8 bits of precision: steps of 5e-6 would be rounded
            away, so that parameters of less than float32 have copies here, and follow them.
    """

    def __init__(self, owner: str, parameters: Mapping[str, nn.Parameter], config: Optimiser) -> None:
        self.owner, self.parameters, self.config, self.moves = owner, parameters, config, 0
        self.masters = {n: p if p.dtype == torch.float32 else p.detach().float() for n, p in parameters.items()}
        self.optimiser = AdamW(
            self.masters.values(),
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=all(master.is_cuda for master in self.masters.values()),
        )

    def forget(self) -> None:
        """Drops all gradients."""
        for parameter in (*self.parameters.values(), *self.masters.values()):
            parameter.grad = None

    def collect(self) -> None:
        """Adds up the gradients of micro-batches in float32, so that their number matters to rounding only."""
        for name, master in self.masters.items():
            parameter = self.parameters[name]
            if parameter is not master and parameter.grad is not None:
                more = parameter.grad.float()
                master.grad = more if master.grad is None else master.grad.add_(more)
                parameter.grad = None

    def move(self, loss: float, scale: float = 1.0) -> dict[str, float]:
        """One step down the collected gradients; returns their norm before clipping, and the rate of the step.

        Args:
            loss: what the gradients are of, to be looked at.
            scale: the rate of this step as a share of the peak.

        Raises:
            TrainingError: if loss or gradient is not finite, and nothing has moved in this step then; or if a weight
                is not finite after it.
        """
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters.values(), self.config.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.forget()
            raise TrainingError(
                f"{self.owner}: the loss is {loss} and the gradient norm {norm}, expected finite numbers; "
                "the optimizer step was not made; lower optimiser.lr or look at the rewards of this step"
            )
        lr = self.config.lr * scale
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        self.moves += 1
        self._follow()
        self._check_finite()
        return {"gradient_norm": norm, "lr": lr}

    def _check_finite(self) -> None:
        """Weights that are not numbers can neither be mended nor be found later by looking at losses."""
        norms = torch.nn.utils.get_total_norm(self.masters.values())
        if not torch.isfinite(norms):
            raise TrainingError(
                f"{self.owner}: some weights are not finite after the optimizer step; go back to the last checkpoint "
                f"with a lower optimiser.lr (now {self.config.lr}) or optimiser.weight_decay"
            )

    @torch.no_grad()
    def _follow(self) -> None:
        for name, parameter in self.parameters.items():
            if parameter is not self.masters[name]:
                parameter.copy_(self.masters[name])
                self.masters[name].grad = None

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on with the very same numbers."""
        return {
            "parameters": {name: master.detach().cpu() for name, master in self.masters.items()},
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up a state written by `state`: weights and moments; rates are those of the present settings.

        Raises:
            ConfigError: if its parameters are not these.
        """
        saved = state["parameters"]
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in self.parameters.items()}:
            raise ConfigError(
                f"{self.owner}: the checkpoint holds other parameters than this model; resume with the "
                "settings that the run was started with"
            )
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(saved[name])
        self._follow()
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:  # settings that may have changed since
            group.update(lr=self.config.lr, betas=self.config.betas, weight_decay=self.config.weight_decay)

"""AdamW and all that surrounds a step of it; the same for policies and for critics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW

from madrigal.settings import OptimizerConfig
from madrigal.types import ConfigError, TrainingError


class Optimizer:
    """Moves parameters against their gradients, in float32 whatever the model computes in.

    Attributes:
        owner: whose parameters they are, for errors: "policy ann".
        steps: how many were made in this process.
        peak: the learning rate, of which each step takes a share.
        masters: what AdamW moves, by name. bfloat16 has 8 bits of precision: steps of 5e-6 would be rounded away, so
            that parameters of less than float32 have copies here, and follow them.
    """

    def __init__(self, owner: str, parameters: Mapping[str, nn.Parameter], config: OptimizerConfig) -> None:
        assert config.lr is not None, "who makes it names a rate: learning.rates.with_rate"
        self.owner, self.parameters, self.config, self.steps = owner, parameters, config, 0
        self.peak = config.lr
        self.masters = {n: p if p.dtype == torch.float32 else p.detach().float() for n, p in parameters.items()}
        self.adamw = AdamW(
            self.masters.values(),
            lr=self.peak,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for parameter in (*self.parameters.values(), *self.masters.values()):
            parameter.grad = None

    def accumulate(self, loss: Tensor) -> float:
        """Adds the gradient of a micro-batch's part of the loss, and returns that part.

        Gradients are added up in float32, so that the number of micro-batches matters to rounding only.
        """
        loss.backward()  # type: ignore[no-untyped-call]
        for name, master in self.masters.items():
            parameter = self.parameters[name]
            if parameter is not master and parameter.grad is not None:
                master.grad = parameter.grad.float() if master.grad is None else master.grad.add_(parameter.grad)
                parameter.grad = None
        return float(loss.detach())

    def step(self, loss: float, scale: float = 1.0) -> dict[str, float]:
        """One step down the accumulated gradients; returns their norm before clipping, and the rate of the step.

        Args:
            loss: what the gradients are of, which must be finite.
            scale: the rate of this step as a share of the peak.

        Raises:
            TrainingError: if loss or gradient is not finite, and nothing has moved in this step then; or if a weight
                is not finite after it.
        """
        total = whole(get_total_norm([p.grad for p in self.masters.values() if p.grad is not None]))
        clip_grads_with_norm_(self.masters.values(), self.config.clip_norm, total)
        norm = float(total)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.zero_grad()
            raise TrainingError(
                f"{self.owner}: the loss is {loss} and the gradient norm {norm}, expected finite numbers; "
                "the optimizer step was not made; lower optimizer.lr or look at the rewards of this step"
            )
        lr = self.peak * scale
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.adamw.step()
        self.steps += 1
        self.zero_grad()  # while other policies learn, their memory is wanted
        self._copy_masters()
        self._check_finite()
        return {"gradient_norm": norm, "lr": lr}

    def _check_finite(self) -> None:
        """Weights that are not numbers can neither be mended nor be found later by looking at losses."""
        if not torch.isfinite(whole(get_total_norm(self.masters.values()))):
            raise TrainingError(
                f"{self.owner}: some weights are not finite after the optimizer step; go back to the last checkpoint "
                f"with a lower optimizer.lr (now {self.peak}) or optimizer.weight_decay"
            )

    @torch.no_grad()
    def _copy_masters(self) -> None:
        """Rounds the float32 copies into the model's own parameters."""
        for name, parameter in self.parameters.items():
            if parameter is not self.masters[name]:
                parameter.copy_(self.masters[name])

    def forget(self) -> None:
        """Begins anew with the present weights: moments of another objective are no measure of the next one's."""
        self.adamw.state.clear()

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on with the very same numbers."""
        return {
            "parameters": {name: master.detach().cpu() for name, master in self.masters.items()},
            "optimizer": self.adamw.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up a state written by `state`: weights and moments; rates are those of the present settings.

        Raises:
            ConfigError: if its parameters are not these.
        """
        saved = state["parameters"]
        self.check_fits(saved)
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(saved[name])
        self._copy_masters()
        self.adamw.load_state_dict(state["optimizer"])
        for moments in self.adamw.state.values():  # out of the file that they may be mapped from
            moments.update({name: moment.clone() for name, moment in moments.items() if torch.is_tensor(moment)})
        for group in self.adamw.param_groups:  # settings that may have changed since
            group.update(lr=self.peak, betas=self.config.betas, weight_decay=self.config.weight_decay)

    def check_fits(self, saved: Mapping[str, Tensor]) -> None:
        """Refuses saved parameters that are others than these.

        Raises:
            ConfigError: saying what to do.
        """
        if {k: v.shape for k, v in saved.items()} != {k: v.shape for k, v in self.parameters.items()}:
            raise ConfigError(
                f"{self.owner}: the checkpoint holds other parameters than this model; resume with the "
                "settings that the run was started with"
            )


def whole(tensor: Tensor) -> Tensor:
    """The value of a tensor of which each rank may hold a share."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()

"""AdamW over named weights: one update, all of it or nothing, and a state that a resumed run goes on from."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from charter.learner.schedule import ScheduleSettings


class OptimizerSettings(ScheduleSettings, Protocol):
    """The numbers of AdamW; a recipe's [optimizer] table has them."""

    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def eps(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...


class Updater:
    """The weights that learn, and how.

    parts: weights by name, with the share of the learning rate at which each part learns; weight decay falls on
    matrices only. apart: whether each part's gradients are scaled down by their own norm, not by that of all together.
    version: updates made so far.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Mapping[str, nn.Parameter], float]],
        settings: OptimizerSettings,
        *,
        apart: bool = False,
    ) -> None:
        self.named = {name: parameter for named, _ in parts for name, parameter in named.items()}
        self.version = 0
        self._most = settings.max_grad_norm
        self._clipped = [list(named.values()) for named, _ in parts] if apart else [list(self.named.values())]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": chosen, "weight_decay": decay, "share": share}
                for named, share in parts
                for matrices, decay in ((True, settings.weight_decay), (False, 0.0))
                if (chosen := [p for p in named.values() if (p.ndim > 1) == matrices])
            ],
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )
        # moments and gradients take their memory before anything else does, or they lie between what comes and goes
        hooks: list[RemovableHandle] = []
        for parameter in self.named.values():
            self._optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            keep = partial(_keep_gradient, torch.zeros_like(parameter))
            hooks.append(parameter.register_post_accumulate_grad_hook(keep))
        weakref.finalize(self, _remove, hooks)

    def begin(self) -> None:
        """Forget gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def apply(self, loss: float, rate: float, skipped: float) -> dict[str, float]:
        """Clip and take the optimizer's step, unless the loss or a gradient is not finite.

        Returns: {"grad_norm", "skipped"}, the latter one more where nothing was changed.
        """
        norms = [float(torch.nn.utils.clip_grad_norm_(together, self._most)) for together in self._clipped]
        norm = math.hypot(*norms)
        finite = math.isfinite(norm) and math.isfinite(loss)
        if finite:
            for group in self._optimizer.param_groups:
                group["lr"] = rate * group["share"]
            self._optimizer.step()
            self.version += 1
        self.begin()
        return {"grad_norm": norm, "skipped": skipped + (not finite)}

    def moments(self) -> dict[str, Tensor]:
        """The optimizer's numbers, as `exp_avg/NAME` and so on; none before the first update."""
        if not self.version:
            return {}
        return {
            f"{key}/{name}": value.detach()
            for name, parameter in self.named.items()
            for key, value in self._optimizer.state[parameter].items()
        }

    def load(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """Go on from saved moments. Raises ValueError naming a parameter whose moments are missing."""
        self.version = version
        if not version:
            return
        for name, parameter in self.named.items():
            own = self._optimizer.state[parameter]
            saved = {key: tensors.get(f"{key}/{name}") for key in own}
            if any(value is None or value.shape != own[key].shape for key, value in saved.items()):
                raise ValueError(f"the saved optimizer state has no moments for {name}")
            for key, value in saved.items():
                own[key].copy_(value)


def _remove(hooks: Sequence[RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()


def _keep_gradient(place: Tensor, parameter: Tensor) -> None:
    """Move a weight's first gradient to where its gradients are kept; later ones are added there."""
    if parameter.grad is not place:
        parameter.grad = place.copy_(parameter.grad)  # type: ignore[arg-type]

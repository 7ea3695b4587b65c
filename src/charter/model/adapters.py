"""LoRA through peft: low-rank adapters injected into a policy's own modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from charter.errors import MissingExtra, ModelError
from charter.model.load import Policy


class Adapters:
    """The adapters of a policy; its other weights are frozen.

    Source: Hu et al., "LoRA" (arXiv 2106.09685): W + (alpha / rank) · B A, with B starting at 0.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = tuple(layers)

    @classmethod
    def inject(cls, policy: Policy, *, rank: int, alpha: float, targets: Sequence[str] | str, seed: int) -> Adapters:
        """Put an adapter on each target module; the same seed gives the same adapters.

        Raises MissingExtra without peft, ModelError for targets the model does not have.
        """
        try:
            from peft import LoraConfig, inject_adapter_in_model
            from peft.tuners.lora import LoraLayer
        except ImportError as error:
            raise MissingExtra("peft", "lora", "a [lora] table") from error
        import torch

        chosen = targets if isinstance(targets, str) else list(targets)
        if chosen == "all-linear":
            head = policy.module.get_output_embeddings()
            chosen = sorted(
                {
                    name.rsplit(".", 1)[-1]
                    for name, part in policy.module.named_modules()
                    if part is not head and type(part).__name__ in ("Linear", "Conv1D")
                }
            )
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=chosen)  # type: ignore[arg-type]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                inject_adapter_in_model(config, policy.module)
            except ValueError as error:
                raise ModelError(f"lora.targets = {chosen}: {str(error).splitlines()[0]}") from error
        for name, parameter in policy.module.named_parameters():
            parameter.requires_grad_("lora_" in name)
        return cls([part for part in policy.module.modules() if isinstance(part, LoraLayer)])

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """The model without its adapters: the reference policy, for no memory."""
        for layer in self._layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self._layers:
                layer.enable_adapters(True)

    def merged_state(self, module: Any) -> dict[str, Any]:
        """The module's state dict with the adapters folded into the weights, named as without adapters."""
        plain = {name: value for name, value in module.state_dict().items() if ".lora_" not in name}
        for name, part in module.named_modules():
            if part in self._layers:
                weight = f"{name}.base_layer.weight"
                plain[weight] = plain[weight] + part.get_delta_weight("default")
        return {name.replace(".base_layer.", "."): value for name, value in plain.items()}

"""How a micro-batch's branches are read by a model: with their prefixes, or after one that is open already."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from charter.learner.open_prefix import OpenPrefix
from charter.learner.packing import MicroBatch
from charter.model.load import Policy


class Reader(Protocol):
    """Reads the micro-batches of a stretch (`charter.learner.plan`)."""

    def open(self, policy: Policy) -> Sequence[Tensor]:
        """Read what the micro-batches share under this model; returns the leaves that their backwards add to."""
        ...

    def predicting(self, policy: Policy, micro: MicroBatch) -> Tensor:
        """The states `[N, D]` of this model that predict the tokens with loss."""
        ...

    def close(self) -> None:
        """Take the gradients that were left at the leaves on to the weights."""
        ...


class Whole:
    """Every micro-batch with its own prefixes."""

    def open(self, policy: Policy) -> Sequence[Tensor]:
        return ()

    def predicting(self, policy: Policy, micro: MicroBatch) -> Tensor:
        hidden = policy.hidden(micro.tokens, micro.positions, micro.layout())
        # index_select, whose backward on CPU adds in a fixed order: the prompt's last state is read G times
        return hidden.index_select(0, micro.source)

    def close(self) -> None:
        pass


class AfterOpenPrefix:
    """Parts of one tree, whose prefix each model reads once: when it is first asked for, or told to `open`.

    A model is asked with gradients or without, and the two are kept apart: without gradients the adapters of the same
    model may be switched off, which makes it the reference.
    """

    def __init__(self, prefix: tuple[int, ...]) -> None:
        self._prefix = prefix
        self._read: dict[tuple[int, bool], OpenPrefix] = {}
        self._reading = threading.Lock()

    def open(self, policy: Policy) -> Sequence[Tensor]:
        return self._under(policy).leaves

    def predicting(self, policy: Policy, micro: MicroBatch) -> Tensor:
        return self._under(policy).predicting(micro)

    def close(self) -> None:
        for opened in self._read.values():
            opened.close()
        self._read.clear()

    def _under(self, policy: Policy) -> OpenPrefix:
        key = id(policy), torch.is_grad_enabled()
        with self._reading:
            if key not in self._read:
                self._read[key] = OpenPrefix(policy, self._prefix)
            return self._read[key]

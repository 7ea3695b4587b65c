"""A worker reward whose text decides alone how long it takes: too slow is wrong, not a failure.

`regex`, `schema`, `tool_call` and `csv` bound their input, so a text that overruns has met a pattern that explodes on
it. Were that a failure, a model could stop a run by writing such texts.
"""

from __future__ import annotations

from charter.reward.runtime import WorkerReward


class TextWorkerReward(WorkerReward):
    """Base of the rewards on form; a time-out scores 0."""

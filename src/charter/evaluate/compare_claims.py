"""What is commonly said of the methods, beside what a comparison measured: sentences out of its record alone.

Whether a difference of scores is one is told by its interval over prompts and seeds, and never by the two means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
Column = Mapping[str, Any]

HOLDS, FAILS, PARTLY, UNKNOWN = "holds here", "does not hold here", "holds in part", "cannot be told here"
"""The verdicts."""

HALF = 0.5
"""What "half of the memory" means: a ratio of at most this."""


def claims_of(record: Record) -> list[dict[str, str]]:
    """{"said": the common claim, "here": what was measured, "verdict"} for each claim whose methods were run.

    record: with "methods" and "differences", as `compare_record` makes it.
    """
    return [
        {"said": said, "here": here, "verdict": verdict}
        for claim in (_half, _cheapest, _faster, _samples, _direct, _control, _sampling, _near)
        for said, here, verdict in claim(record)
    ]


Claim = Iterator[tuple[str, str, str]]


def _half(record: Record) -> Claim:
    grpo, ppo = _both(record, "grpo", "ppo")
    if grpo is None or ppo is None:
        return
    measured, formula = (grpo[key] / ppo[key] for key in ("peak_bytes", "estimate_bytes"))
    own = (grpo["peak_bytes"] - grpo["baseline_bytes"]) / (ppo["peak_bytes"] - ppo["baseline_bytes"])
    here = (
        f"GRPO's peak was {measured:.2f} of PPO's ({_gib(grpo['peak_bytes'])} and {_gib(ppo['peak_bytes'])}); without "
        f"what the process held before any model was there {own:.2f}; by construction {formula:.2f}. Models in memory: "
        f"GRPO {_models(grpo)}; PPO {_models(ppo)}."
    )
    yield "GRPO needs half of PPO's memory.", here, HOLDS if measured <= HALF else FAILS


def _cheapest(record: Record) -> Claim:
    methods: Mapping[str, Column] = record["methods"]
    if "dpo" not in methods or len(methods) < 2:
        return
    clock, words = _clock(record)
    kinds = {"flops": "the fewest operations", clock: f"the least {words} in steps", "peak_bytes": "the lowest peak"}
    least = {kind: min(methods, key=lambda name, kind=kind: methods[name][kind]) for kind in kinds}
    told = [
        f"{methods[least[kind]]['title']} had {words}"
        + ("" if least[kind] == "dpo" else f" (DPO {methods['dpo'][kind] / methods[least[kind]][kind]:.2f} times that)")
        for kind, words in kinds.items()
    ]
    online = "sampling" in methods["dpo"]["tokens_forward"]
    source = "sampled its pairs itself" if online else "learned from given pairs and sampled nothing"
    won = sum(name == "dpo" for name in least.values())
    verdict = HOLDS if won == len(kinds) else PARTLY if won else FAILS
    yield "DPO is the cheapest.", f"{'; '.join(told)}. DPO {source}.", verdict


def _faster(record: Record) -> Claim:
    grpo, ppo = _both(record, "grpo", "ppo")
    if grpo is None or ppo is None:
        return
    clock, words = _clock(record)
    each, learning, operations = (
        [amount(column) / max(column["tokens_sampled"], 1) for column in (grpo, ppo)]
        for amount in (lambda c: c[clock], lambda c: c[PARTS[clock]]["learn"], lambda c: c["flops"])
    )
    here = (
        f"Per sampled token GRPO's steps took {each[0] / each[1]:.2f} of PPO's {words}, its learning alone "
        f"{_ratio(*learning)}, its operations {_ratio(*operations)}."
    )
    yield "Without a critic, GRPO is faster than PPO.", here, HOLDS if each[0] < each[1] else FAILS


def _samples(record: Record) -> Claim:
    grpo, ppo = _both(record, "grpo", "ppo")
    if grpo is None or ppo is None:
        return
    told, verdict = _difference(record, "ppo", "grpo")
    lost = ", ".join(f"{c['title']} could not use {_share(c['cannot_use'], 'completions')}" for c in (ppo, grpo))
    here = f"{told}. Of the completions, {lost}."
    yield "PPO gets more out of the same samples, since it uses every completion several times.", here, verdict


def _direct(record: Record) -> Claim:
    dpo, ppo = _both(record, "dpo", "ppo")
    if dpo is None or ppo is None:
        return
    told, better = _difference(record, "ppo", "dpo")
    verdict = {HOLDS: FAILS, FAILS: HOLDS}.get(better, UNKNOWN)
    yield "DPO learns what PPO learns, without a reward model or a critic.", f"{told}.", verdict


def _control(record: Record) -> Claim:
    methods: Mapping[str, Column] = record["methods"]
    rivals = [name for name in ("ppo", "grpo") if name in methods]
    if "rejection_sft" not in methods or not rivals:
        return
    found = [_difference(record, name, "rejection_sft") for name in rivals]
    verdicts = {verdict for _, verdict in found}
    verdict = verdicts.pop() if len(verdicts) == 1 else PARTLY if HOLDS in verdicts else UNKNOWN
    here = f"{'; '.join(told for told, _ in found)}."
    yield "Reinforcement learning goes further than imitating one's own best samples.", here, verdict


def _sampling(record: Record) -> Claim:
    methods: Mapping[str, Column] = record["methods"]
    clock, words = _clock(record)
    shares = {c["title"]: c[PARTS[clock]]["sample"] / c[clock] for c in methods.values() if c[PARTS[clock]]["sample"]}
    if not shares:
        return
    most = [share > HALF for share in shares.values()]
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    verdict = HOLDS if all(most) else PARTLY if any(most) else FAILS
    yield "Most of the time goes into sampling.", f"Sampling took, of the {words} in steps: {told}.", verdict


def _near(record: Record) -> Claim:
    sft, grpo = _both(record, "rejection_sft", "grpo")
    if sft is None or grpo is None:
        return
    far, near = ([run["kl"]["k3"] for run in column["by_seed"].values()] for column in (sft, grpo))
    here = (
        f"KL from the start (k3, nats per token, by seed): GRPO {_numbers(near)}; rejection-sampling SFT "
        f"{_numbers(far)}."
    )
    verdict = HOLDS if max(near) < min(far) else FAILS if max(far) < min(near) else UNKNOWN
    yield (
        "Reinforcement learning stays nearer to the starting model than imitation.",
        here,
        verdict if min(len(near), len(far)) > 1 else UNKNOWN,
    )


PARTS = {"seconds": "time", "processor_seconds": "processor_time"}
"""Where the parts of each kind of time stand."""


def _clock(record: Record) -> tuple[str, str]:
    """Which time is compared, and its name: the processor's on a CPU, since the wall's counts what else ran there."""
    device = any(column["peak_device_bytes"] for column in record["methods"].values())
    return ("seconds", "time") if device else ("processor_seconds", "processor time")


def _both(record: Record, a: str, b: str) -> tuple[Column | None, Column | None]:
    return record["methods"].get(a), record["methods"].get(b)


def _difference(record: Record, a: str, b: str) -> tuple[str, str]:
    """What a's score is over b's, as words, and whether a is better; UNKNOWN where the interval holds 0."""
    methods = record["methods"]
    found = next((row for row in record["differences"] if {row["of"], row["over"]} == {a, b}), None)
    if found is None:
        return f"{methods[a]['title']} and {methods[b]['title']} had different seeds", UNKNOWN
    sign = 1 if found["of"] == a else -1
    value = sign * found["difference"]
    low, high = sorted(sign * bound for bound in found["interval_both"])
    words = (
        f"{methods[a]['title']}'s score less {methods[b]['title']}'s was {value:+.3f}, 95 % over prompts and seeds "
        f"[{low:+.3f}, {high:+.3f}]"
    )
    return words, HOLDS if low > 0 else FAILS if high < 0 else UNKNOWN


def _models(column: Column) -> str:
    return ", ".join(str(model["name"]) for model in column["models_resident"])


def _share(lost: Mapping[str, Any], kind: str) -> str:
    return f"{lost[f'{kind}_unused'] / lost[kind]:.0%}" if lost[kind] else "none of 0"


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.2f}" if b else "not measured"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)

"""The table of a comparison: its rows as text, in groups, for compare.md and compare.html alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from charter.cli.pages.text import number, seconds
from charter.evaluate.compare_record import SAMPLED, SCORED, UPDATED

Column = Mapping[str, Any]
Row = tuple[str, list[str]]

PASS_NAMES = {
    "sampling": "sampling", "policy_forward": "policy, no gradient", "policy_learning": "policy, learning",
    "critic_forward": "critic, no gradient", "critic_learning": "critic, learning",
    "reference_forward": "reference", "reward_forward": "reward model",
}  # fmt: skip
PART_NAMES = {
    "gradients": "gradients", "optimizer_state": "optimizer state", "activations": "activations of an update",
    "logits": "logits chunk", "cache": "sampler cache",
}  # fmt: skip


def size(count: float) -> str:
    """Bytes in the unit that fits."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def amount(value: float) -> str:
    """A count, large or small: 1.23e+15, 5,120, 0.153."""
    if value != 0 and ((abs(value) < 10 and value != round(value)) or abs(value) >= 1e7):
        return f"{value:.3g}"
    return f"{value:,.0f}"


def interval(value: float, bounds: Sequence[float], *, sign: bool = False) -> str:
    """0.61 [0.52, 0.69]."""
    form = "+.3f" if sign else ".3f"
    return f"{value:{form}} [{bounds[0]:{form}}, {bounds[1]:{form}}]"


def groups(record: Mapping[str, Any]) -> list[tuple[str, list[Row]]]:
    """(title of the group, its rows), each row with a cell per method."""
    methods: Mapping[str, Column] = record["methods"]

    def row(name: str, cell: Callable[[Column], str]) -> Row:
        return name, [cell(column) for column in methods.values()]

    what = [
        ("sampled", [SAMPLED[name] for name in methods]),
        ("scored", [SCORED[name] for name in methods]),
        ("updated", [UPDATED[name] for name in methods]),
        row("cannot use", lambda c: str(c["cannot_use"]["why"])),
    ]
    return [
        ("What it does", what),
        ("Result", _result(record, row)),
        ("Memory", _memory(methods, row)),
        ("Tokens and arithmetic", _tokens(methods, row)),
        ("Time", _time(row)),
        ("Sampled data it could not learn from", _unused(row)),
    ]


def differences(record: Mapping[str, Any]) -> list[Row]:
    """(A − B, [the difference with both intervals, whether it excludes 0]) for every two methods."""
    titles = {name: str(column["title"]) for name, column in record["methods"].items()}
    return [
        (
            f"{titles[one['of']]} − {titles[one['over']]}",
            [
                interval(one["difference"], one["interval"], sign=True),
                interval(one["difference"], one["interval_both"], sign=True),
                "yes" if one["excludes_zero"] else "no: cannot be told",
            ],
        )
        for one in record["differences"]
    ]


DIFFERENCE_HEAD = ("score less score", "95 % over prompts", "95 % over prompts and seeds", "does the second exclude 0?")
CLAIM_HEAD = ("what is commonly said", "what was measured", "verdict")


def claims(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what is commonly said, what was measured, the verdict)."""
    return [(one["said"], one["here"], one["verdict"]) for one in record["claims"]]


def _result(record: Mapping[str, Any], row: Callable[[str, Callable[[Column], str]], Row]) -> list[Row]:
    how = "greedy" if record["temperature"] == 0 else f"temperature {record['temperature']:g}"
    name = "accuracy" if record["score"] == "accuracy" else "mean reward"
    rows = [
        row(f"held-out {name} at the start, {how}", lambda c: f"{c['score_before']:.3f}"),
        row(f"held-out {name}, {how} [95 % over prompts]", lambda c: interval(c["score"], c["score_interval"])),
        row("gain [95 % over prompts]", lambda c: interval(c["gain"], c["gain_interval"], sign=True)),
        row("does the gain exclude 0?", lambda c: "yes" if c["gain_excludes_zero"] else "no: cannot be told"),
    ]
    if len(record["seeds"]) > 1:
        rows += [
            row("by seed", lambda c: ", ".join(f"{s:.3f}" for s in c["score_by_seed"])),
            row("standard deviation over seeds", lambda c: number(c["score_std"])),
            row("95 % over prompts and seeds", lambda c: interval(c["score"], c["score_interval_both"])),
        ]
    return [
        *rows,
        row("KL from the start, k1, nats per token", lambda c: number(c["kl"]["k1"])),
        row("KL from the start, k3, nats per token", lambda c: number(c["kl"]["k3"])),
        row("tokens of a held-out completion, before → after", lambda c: _course(c["length"]["held_out"])),
        row("tokens of a completion in training, first → last steps", lambda c: _course(c["length"]["training"])),
    ]


def _memory(methods: Mapping[str, Column], row: Callable[[str, Callable[[Column], str]], Row]) -> list[Row]:
    roles = list(dict.fromkeys(role for c in methods.values() for role in c["bytes"]["weights_of"]))
    rows = [
        row("models resident", lambda c: "; ".join(f"{m['name']} ({m['why']})" for m in c["models_resident"])),
        *(row(f"weights: {role}", lambda c, role=role: _bytes(c["bytes"]["weights_of"].get(role))) for role in roles),
        *(row(name, lambda c, part=part: _bytes(c["bytes"].get(part))) for part, name in PART_NAMES.items()),
        row("estimated peak, the parts that are there together", lambda c: size(c["estimate_bytes"])),
        row("measured peak of the process", lambda c: size(c["peak_bytes"])),
        row("of that, before any model was loaded", lambda c: size(c["baseline_bytes"])),
    ]
    if any(c.get("peak_device_bytes") for c in methods.values()):
        rows.append(row("measured peak of the device's allocator", lambda c: _bytes(c["peak_device_bytes"])))
    return rows


def _tokens(methods: Mapping[str, Column], row: Callable[[str, Callable[[Column], str]], Row]) -> list[Row]:
    passes = [name for name in PASS_NAMES if any(name in c["tokens_forward"] for c in methods.values())]
    learnt = [name for name in PASS_NAMES if any(name in c["tokens_backward"] for c in methods.values())]

    def count(table: str, name: str) -> Callable[[Column], str]:
        return lambda c: amount(c[table][name]) if name in c[table] else "–"

    return [
        row("steps", lambda c: amount(c["steps"])),
        row("optimizer updates", lambda c: amount(c["updates"])),
        row("tokens sampled", lambda c: amount(c["tokens_sampled"])),
        row("over the budget by", lambda c: f"{amount(c['budget']['overshot'])} {c['budget']['kind']}"),
        *(row(f"forward: {PASS_NAMES[name]}", count("tokens_forward", name)) for name in passes),
        *(row(f"backward: {PASS_NAMES[name]}", count("tokens_backward", name)) for name in learnt),
        row("floating-point operations, by formula", lambda c: amount(c["flops"])),
        *(row(f"of that: {PASS_NAMES[name]}", count("flops_of", name)) for name in passes),
    ]


def _time(row: Callable[[str, Callable[[Column], str]], Row]) -> list[Row]:
    parts = {"sample": "sampling", "score": "scoring beyond sampling", "learn": "learning", "other": "other"}
    return [
        row("training steps together", lambda c: seconds(c["seconds"])),
        *(row(name, lambda c, part=part: seconds(c["time"][part])) for part, name in parts.items()),
        row("processor time of the steps", lambda c: seconds(c["processor_seconds"])),
        row("of that, sampling and scoring", lambda c: seconds(c["processor_time"]["sample"])),
        row("of that, learning", lambda c: seconds(c["processor_time"]["learn"])),
    ]


def _unused(row: Callable[[str, Callable[[Column], str]], Row]) -> list[Row]:
    def share(kind: str) -> Callable[[Column], str]:
        def cell(c: Column) -> str:
            whole, lost = c["cannot_use"][kind], c["cannot_use"][f"{kind}_unused"]
            return f"{amount(lost)} of {amount(whole)} ({lost / whole:.0%})" if whole else "–"

        return cell

    return [row("prompts", share("groups")), row("completions", share("completions")), row("tokens", share("tokens"))]


def _bytes(count: float | None) -> str:
    return size(count) if count else "–"


def _course(pair: Sequence[float] | None) -> str:
    return f"{pair[0]:.1f} → {pair[1]:.1f}" if pair else "–"

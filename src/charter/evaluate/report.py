"""The record of a constitutional run: fixed keys, and sentences that say what the figures mean and what they do not.

    {"funnel", "principles", "calibration", "preference_model", "arena", "effect", "seconds",
     "helpfulness", "cost", "lives", "name", "model", "constitution", "notes"}

A key whose stage did not run is null. Not here: the page (cli/report_page.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Table = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the stages of a run hand in; whatever did not run stays None.

    name: of the run. model: where it began. constitution: its name.
    funnel: {"stages": [{"name", "in", "out", "dropped": {reason: n}}], "principles": [...]}.
    principles: rows {"id", "drawn", "issues", "unparsed", "revised", "accepted", "edit"}, and perhaps "agreement" and
        "flips"; the funnel's own when left out.
    calibration: {"passed", "verdict", "judges": [{"name", "accuracy", "interval", "brier", "ece", "keeps_slot",
        "position_gap", "n", "reliability": [{"confidence", "accuracy", "n"}], "refusal_free": {...}, "verdict"}]}.
    preference_model: {"name", "accuracy", "interval", "ece", "n", "baselines": [{"name", "accuracy", "interval"}]}.
    arena: `Arena.record()`. effect, helpfulness: `Effect.record()`, of a measure that was not trained against and of
        one of helpfulness. seconds, cost: stage → wall time; stage → {"requests", "prompt_tokens",
        "completion_tokens", "cost"}. lives: of `charter trace`. notes: sentences of the stages themselves.
    """

    name: str
    model: str
    constitution: str
    funnel: Table | None = None
    principles: Sequence[Table] | None = None
    calibration: Table | None = None
    preference_model: Table | None = None
    arena: Table | None = None
    effect: Table | None = None
    helpfulness: Table | None = None
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    cost: Mapping[str, Table] = field(default_factory=dict[str, Table])
    lives: Sequence[Table] = ()
    notes: Sequence[str] = ()


def build_report(findings: Findings) -> dict[str, Any]:
    """report.json: as the module's docstring has it, ready for JSON; a number that is not finite becomes null."""
    funnel = {key: value for key, value in (findings.funnel or {}).items() if key != "principles"}
    principles = findings.principles if findings.principles is not None else (findings.funnel or {}).get("principles")
    return _plain(
        {
            "name": findings.name, "model": findings.model, "constitution": findings.constitution,
            "funnel": funnel or None, "principles": principles, "calibration": findings.calibration,
            "preference_model": findings.preference_model, "arena": findings.arena, "effect": findings.effect,
            "helpfulness": findings.helpfulness, "seconds": findings.seconds, "cost": findings.cost,
            "lives": findings.lives, "notes": findings.notes,
        }
    )  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def sentences(report: Table) -> list[str]:
    """What the figures mean, the main finding first; where an interval holds 0 it says so."""
    said = [_effect(report["effect"], "The policy's score")] if report.get("effect") else []
    if report.get("helpfulness"):
        said.append(_effect(report["helpfulness"], "Helpfulness"))
    said += _arena(report.get("arena"))
    if (calibration := report.get("calibration")) and calibration.get("verdict"):
        said.append(str(calibration["verdict"]))
    said += _preference_model(report.get("preference_model"))
    return said or ["Nothing was evaluated in this run, so nothing is claimed."]


def _span(interval: Sequence[float] | None, form: str = "+.3f") -> str:
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]" if interval else "no interval"


def _effect(effect: Table, what: str) -> str:
    low, high = effect["interval"]
    change = effect.get("difference", effect["after"] - effect["before"])
    decided = effect.get("excludes_zero", low > 0 or high < 0)
    figures = (
        f"{what} by {effect['measure']!r} went from {effect['before']:.3f} to {effect['after']:.3f} on "
        f"{effect.get('n', 'the')} held-out prompts: {change:+.3f}, 95 % interval of the difference "
        f"{_span(effect['interval'])}."
    )
    if not decided:
        why = "the interval holds 0" if low <= 0 <= high else "these are too few prompts"
        return f"{figures} That cannot decide whether it changed at all: {why}."
    return f"{figures} The interval excludes 0: it {'rose' if low > 0 else 'fell'}."


def _arena(arena: Table | None) -> list[str]:
    said: list[str] = []
    for axis in ("helpful", "harmless"):
        pairs = ((arena or {}).get(axis) or {}).get("pairs") or []
        if not pairs:
            continue
        # The models stand in the order in which they were made: the first against the last is the whole way.
        first, last = pairs[0]["a"], pairs[-1]["b"]
        pair = next((one for one in pairs if (one["a"], one["b"]) == (first, last)), None)
        if pair is None:
            continue
        wins, interval = 1 - pair["share"], pair["interval"]
        turned = [1 - interval[1], 1 - interval[0]] if interval else None
        figure = f"On {axis} prompts {last!r} is preferred to {first!r} with p = {wins:.2f} {_span(turned, '.2f')}"
        sure = turned is not None and (turned[0] > 0.5 or turned[1] < 0.5)
        said.append(f"{figure}." if sure else f"{figure}: that cannot decide which is better.")
    rows = (arena or {}).get("evasive") or []
    if len(rows) >= 2 and all(row["answered"]["share"] is not None for row in (rows[0], rows[-1])):
        before, after = rows[0], rows[-1]
        apart = (
            before["answered"]["interval"][0] > after["answered"]["interval"][1]
            or after["answered"]["interval"][0] > before["answered"]["interval"][1]
        )
        said.append(
            f"Of the safe twins {before['model']!r} answers {before['answered']['share']:.0%} and {after['model']!r} "
            f"{after['answered']['share']:.0%}"
            + (": it became " + ("more" if after["answered"]["share"] < before["answered"]["share"] else "less")
               + " evasive." if apart else "; the two intervals overlap, so no difference in evasiveness is claimed.")
        )  # fmt: skip
    return said


def _preference_model(model: Table | None) -> list[str]:
    if not model or model.get("accuracy") is None:
        return []
    told = f"The preference model is right on {model['accuracy']:.1%} of the held-out human pairs"
    told += f" {_span(model['interval'], '.1%')}" if model.get("interval") else ""
    known = [row for row in model.get("baselines", ()) if row.get("accuracy") is not None]
    beside = ", ".join(f"{row['name']} on {row['accuracy']:.1%}" for row in known)
    said = [f"{told}; {beside}." if beside else f"{told}."]
    for name, found in (model.get("against") or {}).items():
        interval = found["interval"]
        figure = f"Against {name!r} that is {100 * (found['difference'] or 0):+.1f} points"
        if interval is None or interval[0] <= 0 <= interval[1]:
            span = "" if interval is None else f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
            said.append(f"{figure}{span}: that cannot decide whether the preference model is better.")
    return said

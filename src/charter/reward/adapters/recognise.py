"""Which signature a reward function has, by the names of its parameters alone.

The rule, in order:

1. `state` and `target` together mean inspect; then `state` means nothing else.
2. Every further mark that is there counts: trl `completions`, `completion_ids`; verl `solution_str`, `solution_strs`;
   openrlhf `queries`; verifiers `completion`, `state`, `states`.
3. Marks of two signatures are an error that names both. None at all: `text` means plain; `prompts` or **kwargs, trl.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from charter.reward.call import SourceError

SIGNATURES = ("trl", "verl", "openrlhf", "verifiers", "inspect", "plain")

MARKS: Mapping[str, tuple[str, ...]] = {
    "trl": ("completions", "completion_ids"),
    "verl": ("solution_str", "solution_strs"),
    "openrlhf": ("queries",),
    "verifiers": ("completion", "state", "states"),
}
"""Signature → parameters that no other signature has."""


def recognise(names: Sequence[str], takes_all: bool) -> tuple[str, str]:
    """The signature of a function and why it was taken for that.

    names: of its parameters. takes_all: it has **kwargs.
    Raises: SourceError naming the candidates when there are two, or the parameters when there is none.
    """
    there: Collection[str] = set(names)
    found = {name: [mark for mark in marks if mark in there] for name, marks in MARKS.items()}
    if {"state", "target"} <= set(there):
        found["verifiers"] = [mark for mark in found["verifiers"] if mark != "state"]
        found["inspect"] = ["state", "target"]
    said = {name: " and ".join(map(repr, marks)) for name, marks in found.items() if marks}
    if len(said) > 1:
        each = ", or ".join(f"{name} (it has {marks})" for name, marks in said.items())
        one = " or ".join(f'signature = "{name}"' for name in said)
        raise SourceError(f"its parameters fit two signatures: {each}. Say which with {one}")
    for name, marks in said.items():
        return name, f"it has the parameter {marks}" if " and " not in marks else f"it has the parameters {marks}"
    if "text" in there:
        return "plain", "it has the parameter 'text'"
    if "prompts" in there or takes_all:
        return "trl", "it has the parameter 'prompts'" if "prompts" in there else "it takes **keywords alone"
    have = ", ".join(names) or "none"
    raise SourceError(
        f"its parameters ({have}) tell no signature. Say which with signature = one of {', '.join(SIGNATURES)}"
    )

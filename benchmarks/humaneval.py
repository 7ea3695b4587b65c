"""HumanEval through the reward `code`: every reference solution must pass, every broken one must not.

    python benchmarks/humaneval.py [--json] [--per-operator N] [--tasks N]

Each mutant of a reference solution is judged twice: by the reward (in the sandbox, expected values outside) and by
Python itself, the data set's own test code run whole in a plain subprocess. Where both say "passes", the mutant changes
nothing that the data set tests (an equivalent mutant, or a gap in its tests); where they differ, one judge is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from mutants import OPERATORS, Mutant, mutants

from charter import assets
from charter.reward import as_group, load_reward
from charter.reward.code import CodeReward
from charter.reward.code_tests import read_tests
from charter.types import Prompt, Score

LIMIT_S = 3.0
PATIENT_S = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One mutant and its two judges. value: the reward's. plain: whether Python passed it; None when it timed out."""

    task: str
    mutant: Mutant
    value: float | None
    note: str
    plain: bool | None


def tasks(count: int | None) -> list[Prompt]:
    """HumanEval's rows as prompts."""
    path = assets.get("humaneval") / "HumanEval.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()][:count]
    return [
        Prompt(
            id=row["task_id"],
            messages=({"role": "text", "content": row["prompt"]},),
            fields={key: value for key, value in row.items() if key != "prompt"},
        )
        for row in rows
    ]


def whole(prompt: Prompt) -> str:
    """The reference solution as a program."""
    return prompt.messages[0]["content"] + prompt.fields["canonical_solution"]


def chosen(prompt: Prompt, per_operator: int) -> Iterator[Mutant]:
    """Up to `per_operator` mutants of each operator, spread over the function."""
    made: dict[str, list[Mutant]] = collections.defaultdict(list)
    for mutant in mutants(whole(prompt), prompt.fields["entry_point"]):
        made[mutant.operator].append(mutant)
    for found in made.values():
        step = max(1, len(found) / per_operator)
        yield from (found[int(i * step)] for i in range(min(per_operator, len(found))))


def plain_verdict(prompt: Prompt, program: str) -> bool | None:
    """Python's own verdict on a trusted program: the tests run whole, in the program's namespace."""
    code = f"{program}\n{prompt.fields['test']}\ncheck({prompt.fields['entry_point']})\n"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\nexec({code!r}, {{}})"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", limited], capture_output=True, timeout=PATIENT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.returncode == 0


async def scores(reward: CodeReward, work: Sequence[tuple[Prompt, str]]) -> list[Score]:
    """The reward's scores of programs, as many at a time as the sandbox has slots."""
    groups = [as_group(prompt, [f"```python\n{program}\n```"]) for prompt, program in work]
    return [found[0] for found in await asyncio.gather(*(reward.score(group) for group in groups))]


async def run(count: int | None, per_operator: int) -> dict[str, Any]:
    """Everything this benchmark finds, as data."""
    reward = load_reward("code", timeout_s=LIMIT_S, time_limit_s=LIMIT_S)
    assert isinstance(reward, CodeReward)
    prompts = tasks(count)
    modes = {p.id: read_tests(p.fields, prompt_text=p.messages[0]["content"]).mode for p in prompts}
    await scores(reward, [(prompts[0], whole(prompts[0]))])  # opens the sandbox
    began = time.perf_counter()
    reference = await scores(reward, [(p, whole(p)) for p in prompts])
    reference_s = time.perf_counter() - began
    work = [(prompt, mutant) for prompt in prompts for mutant in chosen(prompt, per_operator)]
    began = time.perf_counter()
    found = await scores(reward, [(prompt, mutant.source) for prompt, mutant in work])
    mutants_s = time.perf_counter() - began
    await reward.close()
    found = await _patiently(work, found)
    with ThreadPoolExecutor(2) as pool:
        plain = list(pool.map(lambda item: plain_verdict(item[0], item[1].source), work))
    judged = [
        Judged(task=prompt.id, mutant=mutant, value=score.value, note=score.note, plain=verdict)
        for (prompt, mutant), score, verdict in zip(work, found, plain, strict=True)
    ]
    return {
        "tasks": len(prompts),
        "reference_passed": sum(score.value == 1.0 for score in reference),
        "reference_failures": {p.id: s.note for p, s in zip(prompts, reference, strict=True) if s.value != 1.0},
        "reference_s": round(reference_s, 2),
        "calls": sum(mode == "calls" for mode in modes.values()),
        "checker": [task for task, mode in modes.items() if mode == "checker"],
        "mutants_s": round(mutants_s, 2),
        **_of_mutants(judged),
    }


async def _patiently(work: Sequence[tuple[Prompt, Mutant]], found: list[Score]) -> list[Score]:
    """Judge again what ran into the time limit, with more of it: a busy machine is no endless loop."""
    late = [i for i, score in enumerate(found) if score.note.startswith("timeout")]
    reward = load_reward("code", timeout_s=PATIENT_S, time_limit_s=PATIENT_S)
    assert isinstance(reward, CodeReward)
    again = await scores(reward, [(work[i][0], work[i][1].source) for i in late])
    await reward.close()
    return [dict(zip(late, again, strict=True)).get(i, score) for i, score in enumerate(found)]


def _of_mutants(judged: Sequence[Judged]) -> dict[str, Any]:
    operators = {}
    for operator in OPERATORS:
        own = [j for j in judged if j.mutant.operator == operator]
        applicable = {j.task for j in own}
        caught = {j.task for j in own if j.value == 0.0}
        operators[operator] = {
            "mutants": len(own),
            "caught": sum(j.value == 0.0 for j in own),
            "tasks": len(applicable),
            "tasks_caught": len(caught),
            "tasks_not_caught": sorted(applicable - caught),
        }
    return {
        "mutants": len(judged),
        "caught": sum(j.value == 0.0 for j in judged),
        "tasks_with_a_caught_mutant": len({j.task for j in judged if j.value == 0.0}),
        "operators": operators,
        "equivalent": [_told(j) for j in judged if j.value == 1.0 and j.plain],
        "disagreements": [_told(j) for j in judged if j.value is None or (j.value == 1.0) != bool(j.plain)],
    }


def _told(judged: Judged) -> dict[str, Any]:
    facts = asdict(judged.mutant)
    facts.pop("source")
    return {"task": judged.task, **facts, "value": judged.value, "plain": judged.plain, "note": judged.note[:200]}


def main() -> None:
    """Print what was found; exit 1 when a reference fails, a task has no caught mutant, or the judges differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data")
    parser.add_argument("--per-operator", type=int, default=3, help="mutants of each operator per task")
    parser.add_argument("--tasks", type=int, default=None, help="the first N tasks alone")
    given = parser.parse_args()
    found = asyncio.run(run(given.tasks, given.per_operator))
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"references: {found['reference_passed']} of {found['tasks']} pass in {found['reference_s']} s")
        print(f"calls: {found['calls']} tasks; checker: {', '.join(found['checker']) or 'none'}")
        print(f"mutants: {found['caught']} of {found['mutants']} caught in {found['mutants_s']} s")
        for name, row in found["operators"].items():
            print(
                f"  {name:<11} {row['caught']:>4} of {row['mutants']:>4}; tasks {row['tasks_caught']} of {row['tasks']}"
            )
        for title in ("equivalent", "disagreements"):
            print(f"{title}: {len(found[title])}")
            for row in found[title]:
                print(f"  {row['task']} line {row['line']}, {row['operator']}: {row['change']}  {row['note']}")
    sound = found["reference_passed"] == found["tasks"] == found["tasks_with_a_caught_mutant"]
    sys.exit(0 if sound and not found["disagreements"] else 1)


if __name__ == "__main__":
    main()

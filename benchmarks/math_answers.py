"""How many answers the `math` reward judges in a minute, through its worker processes.

    python benchmarks/math_answers.py [--json] [--store] [--answers 10000] [--rounds 5]

The mixture: half plain integers, a quarter decimals and fractions, a quarter LaTeX (roots, polynomials, equations,
sets, intervals, matrices), in groups of eight completions of one prompt, each a sentence or two with the answer boxed,
after "the answer is", or in the last line. Half of the answers are right, and which is known when they are made: the
share judged otherwise is part of the result.

Every round has prompts of its own, so that no cache helps; one warm-up round comes first. The figure is the median
over the rounds of answers / seconds · 60. It is marked invalid when another process takes more than a tenth of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from harness import as_json, cores, facts, median, sample_quiet, store, table, validity, watching

from charter.reward import load_reward
from charter.reward.rubric import as_group
from charter.types import Group, Prompt

GROUP = 8
"""Completions per prompt."""
AT_ONCE = 32
"""Groups that wait for their scores at a time."""
TARGET = 10_000
"""Answers per minute that the reward is to reach on two cores."""

Question = tuple[str, list[str], list[str]]
"""A reference, ways to write it, and wrong answers."""


def integer(draw: random.Random) -> Question:
    n = draw.randrange(-500, 20_000)
    return str(n), [str(n), f"{n:,}", f"{n}.0"], [str(n + draw.randrange(1, 40)), str(-n - 1)]


def decimal_or_fraction(draw: random.Random) -> Question:
    over, under = draw.randrange(1, 400), draw.choice((2, 4, 5, 8, 20, 25))
    value = over / under
    same = [f"\\frac{{{over}}}{{{under}}}", f"{over}/{under}", f"{value}", f"\\dfrac{{{3 * over}}}{{{3 * under}}}"]
    return (
        draw.choice(same[:3]),
        same,
        [f"{value + 0.5}", f"\\frac{{{over + 1}}}{{{under}}}", f"{under}/{over + under}"],
    )


def formula(draw: random.Random) -> Question:
    a, b, c = draw.randrange(2, 60), draw.randrange(2, 60), draw.randrange(61, 99)
    return draw.choice((
        (f"{a}\\sqrt{{{c}}}", [f"\\sqrt{{{a * a * c}}}", f"\\sqrt{{{c}}}\\cdot {a}"],
         [f"{b + 60}\\sqrt{{{c}}}", f"{a}"]),
        (f"x^2+{a + b}x+{a * b}", [f"(x+{a})(x+{b})"], [f"(x+{a})(x-{b})", f"x^2+{a * b}"]),
        (f"y={a}x+{b}", [f"y = {b} + {a}x", f"{a}x+{b}"], [f"y={a}x-{b}", f"{a}x"]),
        (f"\\{{{a},{c}\\}}", [f"\\{{{c},{a}\\}}", f"{a}, {c}"], [f"\\{{{a}\\}}", f"({a},{c})"]),
        (f"[{a},{c})", [f"\\left[{a},{c}\\right)", f"{a}\\le x<{c}"], [f"[{a},{c}]", f"({a},{c})"]),
        (f"\\frac{{{a}\\pi}}{{{c}}}", [f"\\frac{{{2 * a}}}{{{2 * c}}}\\pi"], [f"\\frac{{{a}\\pi}}{{{c + 1}}}"]),
        (f"\\begin{{pmatrix}}{a}&{b}\\\\0&{c}\\end{{pmatrix}}",
         [f"\\begin{{bmatrix}}{a} & {b}\\\\ 0 & {c}\\end{{bmatrix}}"],
         [f"\\begin{{pmatrix}}{b + 60}&{b}\\\\0&{c}\\end{{pmatrix}}"]),
    ))  # fmt: skip


KINDS: Sequence[tuple[str, Callable[[random.Random], Question]]] = (
    ("integers", integer), ("integers", integer), ("decimals and fractions", decimal_or_fraction), ("LaTeX", formula),
)  # fmt: skip
SENTENCES = (
    "Let us work step by step. First we simplify both sides, then collect terms.\n\nTherefore \\boxed{{{0}}}.",
    "We set up the equation and solve it. So the final answer is $\\boxed{{{0}}}$",
    "After some algebra, the answer is ${0}$.",
    "We check the result once more.\n#### {0}",
    "<think>Try small cases first.</think><answer>{0}</answer>",
)


def groups(count: int, seed: int) -> tuple[list[Group], list[float]]:
    """Groups of completions, and the value each completion must get."""
    draw = random.Random(seed)
    made: list[Group] = []
    expected: list[float] = []
    for i in range(count // GROUP):
        gold, right, wrong = KINDS[i % len(KINDS)][1](draw)
        chosen = [draw.random() < 0.5 for _ in range(GROUP)]
        texts = [
            draw.choice(SENTENCES).format(draw.choice(right if ok else wrong)) + " " * n for n, ok in enumerate(chosen)
        ]
        prompt = Prompt(id=f"{seed}-{i}", messages=({"role": "user", "content": "?"},), fields={"answer": gold})
        made.append(as_group(prompt, texts))
        expected += [float(ok) for ok in chosen]
    return made, expected


async def judge(reward: Any, made: Sequence[Group]) -> list[float | None]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(group: Group) -> list[float | None]:
        async with gate:
            return [score.value for score in await reward.score(group)]

    return [value for values in await asyncio.gather(*map(one, made)) for value in values]


def measure(answers: int, rounds: int) -> dict[str, Any]:
    """Rates of every round, and what was judged otherwise than it was made."""
    before = sample_quiet()
    reward: Any = load_reward("math")
    started = time.perf_counter()
    warm, _ = groups(min(answers, 800), 0)
    asyncio.run(judge(reward, warm))
    warm_s = time.perf_counter() - started
    rates: list[float] = []
    other: list[dict[str, Any]] = []
    with watching() as during:
        for number in range(1, rounds + 1):
            made, expected = groups(answers, number)
            started = time.perf_counter()
            found = asyncio.run(judge(reward, made))
            rates.append(len(found) / (time.perf_counter() - started) * 60)
            flat = [(group.prompt.fields["answer"], rollout.text) for group in made for rollout in group.rollouts]
            other += [
                {"reference": gold, "text": text, "value": value, "made_to_be": must}
                for (gold, text), value, must in zip(flat, found, expected, strict=True)
                if value != must
            ]
    reward.shut_down()
    rate = median(rates)
    return {
        **facts(),
        **validity(before, during),
        "cores": cores(),
        "answers_per_round": answers // GROUP * GROUP,
        "rounds": [round(value, 1) for value in rates],
        "answers_per_minute": round(rate, 1),
        "target": TARGET,
        "of_target": round(rate / TARGET, 3),
        "warm_up_s": round(warm_s, 2),
        "judged_otherwise": len(other),
        "examples": other[:5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/math_answers.json")
    parser.add_argument("--answers", type=int, default=10_000, help="answers per round")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds after one warm-up")
    asked = parser.parse_args()
    data = measure(asked.answers, asked.rounds)
    if asked.store:
        print(f"stored {store('math_answers', data)}", file=sys.stderr)
    if asked.json:
        print(as_json(data))
    else:
        print(table([[i + 1, rate] for i, rate in enumerate(data["rounds"])], ("round", "answers per minute")))
        print(f"median {data['answers_per_minute']:,.0f} per minute on {data['cores']} cores")
        print(f"{data['judged_otherwise']} judged otherwise than made")
    raise SystemExit(0 if data["judged_otherwise"] == 0 else 1)


if __name__ == "__main__":
    main()

"""Fuzzing of answer extraction and comparison, by hand:

    python tests/reward/fuzz_math.py --seconds 3600 [--seed 1]

Random completions (pieces of the table of answers, spliced, doubled and damaged) against random references. What must
hold for every one: a verdict of 0 or 1 or a refused reference, within its CPU budget; no exception; the statement is a
text; the same twice. What does not is printed with its seed and counted; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
import tomllib
import traceback
from collections.abc import Iterator
from pathlib import Path

from charter.reward.math_answer import judge_one
from charter.reward.math_bounds import beyond
from charter.reward.math_statement import statement

CPU_S = 1.0
"""CPU seconds one verdict may need."""
SLACK_S = 1.0
"""CPU seconds beyond that, for scanning a long text and for one step in C that no timer interrupts."""
_TEX = r"""
\boxed{ } { ( ) [ ] \{ \} $ $$ \( \) \[ \] , ; . : = < > \le \ge \ne \approx \cup \cap \in \pm \mp ^ _ ** ! % \%
\frac{1}{2} \frac12 \dfrac \sqrt{2} \sqrt[3]{8} \pi \infty -\infty e i x y f(x) \sin \log_2 \binom{5}{2} \cdot
\times \text{ \text{cm} \mathrm{ ^\circ \overline{3} \begin{pmatrix} \end{pmatrix} & \\ \left( \right) \, \! ~
\underbrace{x}_{2} \left\{ \mid ` |x| ' " 9^{9^{9}} ** (B) yes even 0 1 2 3 7 10 41 42 43 122 1,234 0.5 .5 1e5 -3 +4
1/2 99999 25% $5 5cm 1011_2 × ∞ √3 ² ½ ° #### <answer> </answer> <think> </think>
"""
PIECES = [
    *_TEX.split(), "\x00", "\ud800", "\u2212", "\n", "\n\n", " ", " or ", " and ", "#### ", "The answer is ",
    "answer: ", "either ", "maybe ", "so ", " cm", "x = ", r"\sum_{n=1}^{9} n", r"\int_0^1 x dx", r"\lim_{x\to 0} x",
    "import os",
]  # fmt: skip


def table() -> list[list[str]]:
    rows = tomllib.loads((Path(__file__).parent / "math_table.toml").read_text("utf-8"))
    return [row[:2] for kind in rows.values() for row in kind]


def damaged(text: str, draw: random.Random) -> str:
    """A text with a few characters dropped, doubled, swapped or replaced by pieces."""
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(text) + 1)
        to = min(len(text), at + draw.randrange(1, 9))
        text = draw.choice((
            text[:at] + text[to:], text[:to] + text[at:], text[:at] + draw.choice(PIECES) + text[at:],
            text[:at] + draw.choice(PIECES) + text[to:], text[at:] + text[:at],
            text[:at] + text[at:to] * 30 + text[to:],
        ))  # fmt: skip
    return text


def cases(seed: int) -> Iterator[tuple[str, str]]:
    """(reference, completion), for ever."""
    draw = random.Random(seed)
    rows = table()
    while True:
        gold, text = draw.choice(rows)
        kind = draw.random()
        if kind < 0.35:
            text = "".join(draw.choices(PIECES, k=draw.randrange(1, 30)))
            text = f"\\boxed{{{text}}}" if draw.random() < 0.5 else text
        elif kind < 0.8:
            text = damaged(text, draw)
        else:
            text = text + draw.choice((" ", "\n", " or ", ". ", "")) + damaged(draw.choice(rows)[1], draw)
        if draw.random() < 0.1:
            gold = damaged(gold, draw)
        if draw.random() < 0.01:
            text = text * draw.randrange(2, 2000)
        yield gold, text[:200_000]


def trouble(gold: str, text: str) -> str | None:
    """What is wrong with the verdict on one case, or None."""
    began = time.process_time()
    try:
        found = judge_one({"answer": gold, "text": text, "row": "", "cpu_s": CPU_S})
        stated = statement(text)
        beyond(stated)
    except Exception:  # noqa: BLE001 - any exception is what is looked for
        return traceback.format_exc(limit=6)
    used = time.process_time() - began
    if "failed" not in found and found.get("value") not in (0.0, 1.0):
        return f"the verdict is {found!r}"
    if used > 2 * CPU_S + SLACK_S:
        return f"it took {used:.1f} s of CPU time"
    if found.get("value") == 1.0 and judge_one({"answer": gold, "text": text, "cpu_s": 10.0}) != found:
        return "the second verdict differs"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds to spend")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    began, count, slowest, found = time.process_time(), 0, 0.0, 0
    for gold, text in cases(options.seed):
        if time.process_time() - began > options.seconds:
            break
        before = time.process_time()
        wrong = trouble(gold, text)
        slowest = max(slowest, time.process_time() - before)
        count += 1
        if wrong:
            found += 1
            print(json.dumps({"gold": gold, "text": text[:2000], "trouble": wrong}), flush=True)
    spent = round(time.process_time() - began, 1)
    print(
        json.dumps(
            {"cases": count, "cpu_s": spent, "trouble": found, "slowest_s": round(slowest, 2), "seed": options.seed}
        )
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

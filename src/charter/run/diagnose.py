"""What is going wrong in a run, in sentences, while it can still be stopped.

Each check looks at the rows so far and the newest step, and either is content or says one sentence about what was
seen and one about what to do. Thresholds stand beside the check that uses them.

Not here: what the numbers mean (metrics.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from charter.run.endings import undeclared_ending
from charter.types import Update

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a person should know. name: which check. sentence: what was seen. advice: what to do."""

    step: int
    name: str
    sentence: str
    advice: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.sentence} {self.advice}"


MISMATCH, MISMATCH_EIGHT_BIT = 0.05, 0.5
"""Mean |lp_old − lp_sampler| in nats per token above which something is wrong: in one precision, and with 8 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the checks cannot see in the rows.

    repeat_after: steps before the same check may speak again. full_reward: reward of a right completion.
    special_tokens: id → text of the model's special tokens, where known.
    mismatch: mean |lp_old − lp_sampler| in nats per token above which sampler and learner disagree:
    MISMATCH_EIGHT_BIT where the sampler decodes in 8 bits.
    """

    repeat_after: int = 50
    full_reward: float = 1.0
    special_tokens: Mapping[int, str] | None = None
    mismatch: float = MISMATCH


Check = Callable[[Sequence[Row], Update, Settings], tuple[str, str] | None]
"""(rows so far, the newest last; the newest step; settings) → (sentence, advice) or None."""


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _numbers(rows: Sequence[Row], name: str) -> list[float]:
    return [value for row in rows if (value := _number(row, name)) is not None]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


EQUAL_STEPS = 3


def _unused(rows: Sequence[Row], update: Update) -> str | None:
    """What equal rewards inside the groups did to the method, which its metrics tell; None where it learnt anyway."""
    if _numbers(rows, "value/loss"):  # a critic compares with what it expected, not with the group
        seen = {score.value for each in update.scored for score in each.scores if score.value is not None}
        differ = len({*_numbers(rows, "reward")}) > 1 or len(seen) > 1
        return None if differ else "and of every prompt, so the critic has nothing to tell apart"
    if sum(_numbers(rows, "kept")):
        return None
    return "so no pair could be made" if _numbers(rows, "pairs") else "so nothing was learnt"


def _groups_equal(rows: Sequence[Row], update: Update, settings: Settings) -> tuple[str, str] | None:
    recent = rows[-EQUAL_STEPS:]
    if len(recent) < EQUAL_STEPS or _numbers(recent, "frac_reward_zero_std") != [1.0] * EQUAL_STEPS:
        return None
    unused = _unused(recent, update)
    if unused is None:
        return None
    seen = f"For {EQUAL_STEPS} steps every completion of a group earned the same, {unused}:"
    rewards = _numbers(recent, "reward")
    if rewards and min(rewards) >= settings.full_reward:
        return f"{seen} all of them are right.", "The prompts are too easy now: use harder ones, or stop here."
    if rewards and max(rewards) <= 0:
        return (
            f"{seen} all of them are wrong (reward {fmean(rewards):g}).",
            "Read a few with `charter show RUN --worst`: use easier prompts, state the wanted format in the prompt, "
            "or give partial credit.",
        )
    if update.scored and len({s.value for each in update.scored for s in each.scores if s.value is not None}) > 1:
        return (
            f"{seen} some groups are all right and the others all wrong.",
            "Raise sampling.group_size or the temperature, or choose prompts the model solves sometimes.",
        )
    return (
        f"{seen} the mean reward is {fmean(rewards):g}." if rewards else f"{seen} no reward was given.",
        "Read a few with `charter show RUN`: a reward that is constant cannot teach; raise sampling.group_size or "
        "use a reward with finer steps.",
    )


CLIPPED = 0.97


def _truncated(rows: Sequence[Row], update: Update, settings: Settings) -> tuple[str, str] | None:
    share = _number(rows[-1], "completions/clipped_ratio")
    if share is None or share < CLIPPED:
        return None
    limit = _number(rows[-1], "completions/max_length")
    at = f" of {limit:.0f} tokens" if limit is not None else ""
    return (
        f"{_percent(share)} of the completions end at the limit{at}, not by themselves.",
        "Raise sampling.max_new_tokens, ask for shorter answers, or check that the model's end-of-turn token is "
        "among the eos_token_id of its generation config.",
    )


def _undeclared_end(rows: Sequence[Row], update: Update, settings: Settings) -> tuple[str, str] | None:
    found = undeclared_ending(update.scored, settings.special_tokens)
    if found is None:
        return None
    text = (settings.special_tokens or {}).get(found.token)
    token = f"token {found.token}" + (f" ({text})" if text else "")
    what = "fills the rest of" if found.how == "repeated" else "is followed by a new turn in"
    return (
        f"{token[0].upper()}{token[1:]} {what} {found.completions} of the {found.truncated} completions that ran into "
        "the limit: the model seems to end with a token that is not declared as an end.",
        "If it is one, add its id to eos_token_id in the model's generation_config.json.",
    )


def _reward_errors(rows: Sequence[Row], update: Update, settings: Settings) -> tuple[str, str] | None:
    share = _number(rows[-1], "rewards/failed")
    failed = [score.note for each in update.scored for score in each.scores if score.status == "failed"]
    if not failed and not share:
        return None
    total = sum(len(each.scores) for each in update.scored)
    amount = f"{len(failed)} of {total} rewards" if failed else f"{_percent(share or 0.0)} of the rewards"
    causes = Counter(note or "no cause given" for note in failed)
    cause = f", most often: {causes.most_common(1)[0][0]}" if causes else ""
    return f"{amount} failed{cause}.", "Those completions teach nothing; try the reward with `charter reward test`."


def _gradient(rows: Sequence[Row], update: Update, settings: Settings) -> tuple[str, str] | None:
    row = rows[-1]
    broken = "grad_norm" in row and _number(row, "grad_norm") is None
    if not broken and not _number(row, "skipped"):
        return None
    return (
        "The gradient was not finite, and the step changed nothing.",
        'Once is harmless; if it goes on, lower optimizer.learning_rate, or set learner.dtype = "float32".',
    )


WINDOW = 10


def _shift(rows: Sequence[Row], name: str) -> float | None:
    """Change of a metric from the WINDOW rows before the newest WINDOW, in standard errors (Welch); None if unknown."""
    old, new = _numbers(rows[-2 * WINDOW : -WINDOW], name), _numbers(rows[-WINDOW:], name)
    if len(old) < WINDOW or len(new) < WINDOW:
        return None
    change = fmean(new) - fmean(old)
    error = math.sqrt(variance(old) / WINDOW + variance(new) / WINDOW)
    if error == 0:
        return 0.0 if change == 0 else math.copysign(math.inf, change)
    return change / error


SURE = 3.0
"""Standard errors beyond which a change is called one; at 2, one window in twenty would cry wolf."""


def _part_falls(rows: Sequence[Row], update: Update, settings: Settings) -> tuple[str, str] | None:
    total = _shift(rows, "reward")
    if total is None or total < SURE:
        return None
    names = [key for key in rows[-1] if key.startswith("rewards/") and key.endswith("/mean")]
    falling = [name for name in names if (shift := _shift(rows, name)) is not None and shift <= -SURE]
    if not falling:
        return None
    was, now = (fmean(_numbers(part, falling[0])) for part in (rows[-2 * WINDOW : -WINDOW], rows[-WINDOW:]))
    which = falling[0].removeprefix("rewards/").removesuffix("/mean")
    return (
        f"The reward rises while its part {which!r} falls (from {was:.3g} to {now:.3g}): the policy trades one for "
        "another.",
        f"Read `charter show RUN --best`; raise the weight of {which!r}, or repair the reward that is being gamed.",
    )


BASELINE = 5
SHRUNK, GROWN = 1 / 4, 3.0


def _length(rows: Sequence[Row], update: Update, settings: Settings) -> tuple[str, str] | None:
    if len(rows) < 2 * BASELINE:
        return None
    first, last = rows[:BASELINE], rows[-BASELINE:]
    was, now = (_numbers(part, "completions/mean_length") for part in (first, last))
    reward_was, reward_now = (_numbers(part, "reward") for part in (first, last))
    if not (was and now and reward_was and reward_now) or fmean(was) == 0:
        return None
    ratio = fmean(now) / fmean(was)
    # Shorter or longer answers that earn more are what was asked for.
    if SHRUNK < ratio < GROWN or fmean(reward_now) > fmean(reward_was):
        return None
    course = "shrunk" if ratio <= SHRUNK else "grown"
    return (
        f"Completions have {course} from {fmean(was):.0f} to {fmean(now):.0f} tokens on average, and the reward has "
        "not risen with it.",
        "Read a few with `charter show RUN`; lower the learning rate, add grpo.kl_coef, or a reward on length.",
    )


ENTROPY_STEPS = 3
LOW_ENTROPY, FALLEN = 0.05, 1 / 5


def _entropy(rows: Sequence[Row], update: Update, settings: Settings) -> tuple[str, str] | None:
    if len(rows) < 2 * ENTROPY_STEPS:
        return None
    was, now = (_numbers(part, "entropy") for part in (rows[:ENTROPY_STEPS], rows[-ENTROPY_STEPS:]))
    # A policy that was sure from the beginning has not collapsed.
    if len(was) < ENTROPY_STEPS or len(now) < ENTROPY_STEPS:
        return None
    if fmean(now) > LOW_ENTROPY or fmean(now) > FALLEN * fmean(was):
        return None
    return (
        f"The entropy has fallen from {fmean(was):.2g} to {fmean(now):.2g} nats per token: the completions of a group "
        "are nearly the same, and little is left to learn from.",
        "Lower optimizer.learning_rate, raise grpo.clip_high (0.28) or sampling.temperature, or stop here.",
    )


def _mismatch(rows: Sequence[Row], update: Update, settings: Settings) -> tuple[str, str] | None:
    difference = _number(rows[-1], "sampling/logprob_diff_mean")
    if difference is None or difference <= settings.mismatch:
        return None
    return (
        f"Sampler and learner disagree by {difference:.3f} nats per token on average ({settings.mismatch:g} is much).",
        'Check that both use the same weights, temperature and dtype; grpo.mismatch = "truncate" corrects for what '
        "remains.",
    )


CHECKS: Mapping[str, Check] = {
    "groups_equal": _groups_equal,
    "truncated": _truncated,
    "undeclared_end": _undeclared_end,
    "reward_errors": _reward_errors,
    "gradient": _gradient,
    "part_falls": _part_falls,
    "length": _length,
    "entropy": _entropy,
    "mismatch": _mismatch,
}
"""Name of a finding → what looks for it."""


class Watch:
    """The checks, step by step; keeps the numbers of past steps and none of their completions."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._rows: list[Row] = []
        self._spoken: dict[str, int] = {}

    def observe(self, update: Update) -> list[Finding]:
        """What the newest step shows that was not said within the last `repeat_after` steps.

        update: the step; steps come in order.
        """
        self._rows.append(dict(update.metrics))
        findings: list[Finding] = []
        for name, check in CHECKS.items():
            spoken = self._spoken.get(name)
            if spoken is not None and update.step - spoken < self.settings.repeat_after:
                continue
            said = check(self._rows, update, self.settings)
            if said is not None:
                self._spoken[name] = update.step
                findings.append(Finding(step=update.step, name=name, sentence=said[0], advice=said[1]))
        return findings


def diagnose(rows: Sequence[Row], updates: Sequence[Update] = (), settings: Settings | None = None) -> list[Finding]:
    """The findings of a finished run.

    rows: of metrics.jsonl. updates: those steps whose completions are at hand; a step that has both is read from its
    row and its update's completions. settings: as for Watch.
    """
    watch = Watch(settings)
    at_hand = {update.step: update for update in updates}
    steps = {int(row["step"]): row for row in rows}
    findings: list[Finding] = []
    for step in sorted(steps.keys() | at_hand.keys()):
        update = at_hand.get(step)
        metrics = {
            **(update.metrics if update else {}),
            **{k: v for k, v in steps.get(step, {}).items() if k != "step"},
        }
        findings += watch.observe(
            Update(
                step=step,
                version=update.version if update else 0,
                metrics=metrics,
                scored=update.scored if update else (),
                advantages=update.advantages if update else (),
            )
        )
    return findings

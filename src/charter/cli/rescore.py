"""`charter reward rescore RUN`: stored completions under another reward, or once more under the run's own.

Reads the run folder and never writes into it. The columns a reward needs are not stored with the completions: they are
read again from the run's data, where prompts are found by their id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from charter.cli.rescore_credit import credit_of
from charter.cli.reward import AT_ONCE, parse_options

if TYPE_CHECKING:
    from charter.recipe import Recipe
    from charter.reward import Rubric
    from charter.run.reader import Run
    from charter.types import Group, Prompt, Score, Scored

Row = dict[str, Any]
LIMIT = 10
"""Examples that are shown when --limit is left out."""
SAME = 1e-9
"""Rewards closer than this are the same: sums of parts may differ in their last bits."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What changed. examples: completions whose reward or advantage changed, the largest change first."""

    run: str
    reward: str
    steps: list[int] = field(default_factory=list[int])
    completions: int = 0
    failed: int = 0
    abstained: int = 0
    rewards_changed: int = 0
    advantages_changed: int = 0
    signs_changed: int = 0
    signs_flipped: int = 0
    rewards_old: list[float] = field(default_factory=list[float])
    rewards_new: list[float] = field(default_factory=list[float])
    notes: list[str] = field(default_factory=list[str])
    examples: list[Row] = field(default_factory=list[Row])

    def as_data(self, limit: int) -> Row:
        """For --json."""
        return {
            "run": self.run,
            "reward": self.reward,
            "steps": [self.steps[0], self.steps[-1]] if self.steps else [],
            "completions": self.completions,
            "failed": self.failed,
            "abstained": self.abstained,
            "mean_old": _mean(self.rewards_old),
            "mean_new": _mean(self.rewards_new),
            "rewards_changed": self.rewards_changed,
            "advantages_changed": self.advantages_changed,
            "signs_changed": self.signs_changed,
            "signs_flipped": self.signs_flipped,
            "notes": self.notes,
            "examples": self.examples[:limit],
        }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def parse_steps(text: str | None, stored: Sequence[int]) -> list[int]:
    """`a:b` (both included), `a:`, `:b` or `a` → the stored steps among them. Raises: UsageError."""
    from charter.errors import UsageError

    if not stored:
        raise UsageError("the run has no stored completions: it has not finished a step, or it imitates.")
    if text is None:
        return list(stored)
    first, colon, last = text.partition(":")
    if not all(part == "" or part.isdigit() for part in (first, last)) or text in ("", ":"):
        raise UsageError(f"--steps {text!r}: expected a:b, a:, :b or one step, in whole numbers")
    low = int(first) if first else stored[0]
    high = (int(last) if last else stored[-1]) if colon else low
    chosen = [step for step in stored if low <= step <= high]
    if not chosen:
        raise UsageError(f"--steps {text}: stored are steps {stored[0]} to {stored[-1]}. Choose among them")
    return chosen


def read_groups(run: Run, step: int, prompts: Mapping[str, Prompt] | None) -> list[tuple[Group, list[Row]]]:
    """The groups of a step with their stored rows, in stored order.

    prompts: id → prompt with its columns; None to take what the rollouts hold, which has no columns.
    """
    from charter.run.rollouts import turns
    from charter.types import Group, Message, Prompt, Rollout

    groups: list[list[Row]] = []
    for row in run.rollouts(step).to_pylist():
        if not groups or groups[-1][0]["prompt_id"] != row["prompt_id"] or row["index"] <= groups[-1][-1]["index"]:
            groups.append([])
        groups[-1].append(row)
    found = []
    for rows in groups:
        name = rows[0]["prompt_id"]
        messages = tuple(Message(role=role, content=text) for role, text in turns(rows[0]["prompt"]))
        prompt = prompts[name] if prompts is not None else Prompt(id=name, messages=messages)
        rollouts = tuple(
            Rollout(
                prompt_id=name,
                index=row["index"],
                tokens=tuple(row["tokens"]),
                logprobs=tuple(row["logprobs"]),
                text=row["text"],
                stop=row["stop"],
                version=row["version"],
            )
            for row in rows
        )
        found.append((Group(prompt=prompt, rollouts=rollouts, step=step), rows))
    return found


def stored_score(row: Row) -> Score:
    """The score a rollout was stored with."""
    from charter.run.rollouts import PART
    from charter.types import Score

    parts = {key.removeprefix(PART): value for key, value in row.items() if key.startswith(PART)}
    return Score(value=row["reward"], parts=parts, note=row["note"] or "", status=row["status"])


def make_rubric(recipe: Recipe, reward: str | None, options: list[str], timeout_s: float) -> tuple[Rubric, str]:
    """The rubric to score with, and what to call it.

    reward: None for the run's own, a .toml for that recipe's, else a reward's name. Raises: UsageError.
    """
    from charter.cli.reward_builders import reward_builders
    from charter.errors import UsageError
    from charter.recipe import load_recipe
    from charter.reward import Rubric, build_rubric, load_reward, reward_names

    builders = reward_builders(recipe)
    if reward is not None and not reward.endswith(".toml"):
        given = parse_options(options, as_text=reward in reward_names(builders))
        made = load_reward(reward, timeout_s=timeout_s, builders=builders, **given)
        return Rubric([(made, 1.0)]), reward
    if options:
        raise UsageError("--option belongs to a reward's name; a recipe has its options in its [[rewards]]")
    own = recipe if reward is None else load_recipe(reward)
    if not own.rewards:
        raise UsageError(f"{reward or 'the run'} has no [[rewards]]. Name one with --reward")
    return build_rubric(own.rewards, builders), "the run's own rewards" if reward is None else reward


def find_prompts(
    run: Run, recipe: Recipe, steps: Sequence[int], rubric: Rubric
) -> tuple[dict[str, Prompt] | None, str]:
    """The run's prompts by id and a note, from its data; None where no reward needs a column and the data is gone.

    Raises: DataError saying which columns are needed and why they cannot be had.
    """
    from charter.cli.compose import Inputs
    from charter.data import load_prompts
    from charter.errors import CharterError, DataError

    needed = ", ".join(map(repr, rubric.required_columns()))
    source = recipe.data.prompts
    try:
        data = load_prompts(recipe.data, recipe.seed)
    except (CharterError, OSError) as error:
        if needed:
            raise DataError(
                f"the reward needs the columns {needed}. Stored completions do not hold them, and the run's data "
                f"({source}) cannot be read again: {error}. Put it back, or run this where the run was started"
            ) from None
        return None, f"the run's data ({source}) cannot be read again; rewards see the stored prompts without columns"
    problems = rubric.check_columns(data.columns, source or "the data")
    if problems:
        raise DataError("\n".join(map(str, problems)))
    prompts = {prompt.id: prompt for prompt in (*data.train.items, *data.held_out)}
    used = {name for step in steps for name in run.rollouts(step)["prompt_id"].to_pylist()}
    gone = sorted(used - prompts.keys())
    if gone and needed:
        raise DataError(
            f"the reward needs the columns {needed}, and {len(gone)} of the {len(used)} prompts of these steps are not "
            f"in {source} any more (for example {gone[0]}): the data is not what the run read. Put it back"
        )
    if gone:
        return None, f"{len(gone)} prompts are not in {source} any more; rewards see the stored prompts without columns"
    digest = Inputs(recipe=recipe, prompts=data, examples=None, rubric=None).digest()
    changed = run.manifest.get("hashes", {}).get("data") not in (None, digest)
    return prompts, f"{source} has changed since the run; all prompts of these steps are still there" if changed else ""


async def score_groups(rubric: Rubric, groups: Sequence[Group]) -> list[Scored]:
    """Score groups, several at once, in order."""
    import asyncio

    from charter.types import Scored

    turns = asyncio.Semaphore(AT_ONCE)

    async def one(group: Group) -> Scored:
        async with turns:
            return Scored(group=group, scores=tuple(await rubric.score(group)))

    return list(await asyncio.gather(*(one(group) for group in groups)))


def _sign(value: float) -> int:
    return (value > SAME) - (value < -SAME)


def compare(
    report: Report, step: int, rows: Sequence[Row], new: Sequence[tuple[Score, float | None, float | None]]
) -> None:
    """Count what changed in one step. new: per completion its new score, and its advantage before and now."""
    for row, (score, before, now) in zip(rows, new, strict=True):
        report.completions += 1
        report.failed += score.status == "failed"
        report.abstained += score.status == "abstained"
        old = row["reward"]
        if old is not None:
            report.rewards_old.append(old)
        if score.value is not None:
            report.rewards_new.append(score.value)
        moved = (old is None) != (score.value is None) or (
            old is not None and score.value is not None and abs(old - score.value) > SAME
        )
        report.rewards_changed += moved
        shifted = (before is None) != (now is None) or (
            before is not None and now is not None and abs(before - now) > SAME
        )
        report.advantages_changed += shifted
        if before is not None and now is not None:
            report.signs_changed += _sign(before) != _sign(now)
            report.signs_flipped += _sign(before) * _sign(now) == -1
        if moved or shifted:
            report.examples.append(
                {
                    "step": step,
                    "prompt_id": row["prompt_id"],
                    "index": row["index"],
                    "reward_old": old,
                    "reward_new": score.value,
                    "advantage_old": before,
                    "advantage_new": now,
                    "status": score.status,
                    "note": score.note,
                    "text": row["text"],
                }
            )


def _weight(example: Row) -> tuple[int, float, float]:
    """Flipped signs first, then the larger change of advantage, then of reward."""
    before, now = example["advantage_old"] or 0.0, example["advantage_new"] or 0.0
    reward = abs((example["reward_new"] or 0.0) - (example["reward_old"] or 0.0))
    return (-(_sign(before) * _sign(now) == -1), -abs(now - before), -reward)


async def rescore(run: Run, recipe: Recipe, rubric: Rubric, name: str, steps: Sequence[int]) -> Report:
    """Score the steps again, let the run's own estimator make advantages of them, and compare."""
    from charter.errors import StoreError
    from charter.types import Scored

    report = Report(run=str(run.folder), reward=name, steps=list(steps))
    prompts, note = find_prompts(run, recipe, steps, rubric)
    await rubric.ready()
    report.notes += [note] if note else []
    credit = credit_of(recipe, rubric)
    report.notes += [credit.note] if credit.note else []
    for step in steps:
        found = read_groups(run, step, prompts)
        sizes = sorted({len(rows) for _, rows in found})
        if len(sizes) > 1:
            raise StoreError(
                f"step {step} of {run.folder} has groups of {' and '.join(map(str, sizes))} completions; expected one "
                "size. The file is damaged: restore it, or leave the step out with --steps"
            )
        fresh = await score_groups(rubric, [group for group, _ in found])
        now = credit.numbers(fresh, step)
        if credit.stored:
            before = tuple(tuple(row["advantage"] for row in rows) for _, rows in found)
        else:
            then = [Scored(group=group, scores=tuple(map(stored_score, rows))) for group, rows in found]
            before = credit.numbers(then, step)
        for (_, rows), scored, was, is_now in zip(found, fresh, before, now, strict=True):
            compare(report, step, rows, list(zip(scored.scores, was, is_now, strict=True)))
    report.examples.sort(key=_weight)
    return report


def _number(value: float | None, form: str) -> str:
    return "—" if value is None else format(value, form)


def render(report: Report, limit: int) -> str:
    """The report as text."""
    from charter.cli.display import clean

    first, last = report.steps[0], report.steps[-1]
    share = report.rewards_changed / max(1, report.completions)
    means = [_number(_mean(values), ".4g") for values in (report.rewards_old, report.rewards_new)]
    lines = [
        f"{report.run}, steps {first} to {last}: {report.completions} completions under {report.reward}",
        "",
        f"  reward      mean {means[0]} → {means[1]}, {report.rewards_changed} changed ({share:.1%})",
        f"  advantage   {report.advantages_changed} changed, {report.signs_changed} have another sign, "
        f"{report.signs_flipped} of them the opposite one",
        f"  unscored    {report.failed} failed, {report.abstained} abstained",
        *(f"  note        {clean(note)}" for note in report.notes),
    ]
    for example in report.examples[:limit]:
        lines += [
            "",
            f"  step {example['step']}, prompt {clean(example['prompt_id'])} [{example['index']}]: "
            f"reward {_number(example['reward_old'], '.4g')} → {_number(example['reward_new'], '.4g')}, "
            f"advantage {_number(example['advantage_old'], '+.4g')} → {_number(example['advantage_new'], '+.4g')}",
        ]
        if example["note"]:
            lines.append(f"      note: {clean(example['note'])}")
        text = " ".join(example["text"].split())
        lines.append(f"      │ {clean(text[:160])}{'…' if len(text) > 160 else ''}")
    hidden = len(report.examples) - limit
    if hidden > 0:
        lines += ["", f"  and {hidden} more; see them with --limit"]
    return "\n".join(lines)


def command(
    run: Annotated[str, typer.Argument(help="Folder of a run, or its name under runs/.")],
    reward: Annotated[
        str | None, typer.Option(help="A reward's name, or a recipe (.toml); the run's own rewards when left out.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="An option of the reward, key=value; repeatable.")] = None,
    steps: Annotated[str | None, typer.Option(help="Only these steps: a:b, both included.")] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", help="Longest time one completion may take, in seconds.")
    ] = 10.0,
    limit: Annotated[int, typer.Option(min=0, help="How many examples to show.")] = LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="Print data instead of text.")] = False,
) -> None:
    """Score stored completions again; show which rewards change and which advantages change sign.

    Exit code 1 when the reward failed on a completion or, without --reward, when any reward is not the stored one:
    then the run's rewards are not deterministic, or have changed.
    """
    import asyncio

    from charter.cli.show import find_run
    from charter.errors import UsageError
    from charter.recipe import load_recipe

    found = find_run(run)
    recipe = load_recipe(found.folder / "recipe.toml")
    if not recipe.samples:
        raise UsageError(
            f"{found.folder} is a run of method {recipe.method!r} that sampled nothing; only runs that sample have "
            "completions to score again"
        )
    chosen = parse_steps(steps, found.rollout_steps)
    rubric, name = make_rubric(recipe, reward, option or [], timeout_s)

    async def work() -> Report:
        try:
            return await rescore(found, recipe, rubric, name, chosen)
        finally:
            await rubric.close()

    report = asyncio.run(work())
    typer.echo(json.dumps(report.as_data(limit), indent=2) if as_json else render(report, limit))
    raise typer.Exit(1 if report.failed or (reward is None and report.rewards_changed) else 0)

"""`charter show RUN --suspicious`: the report of `charter.run.suspicious`, as text and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from charter.cli.display import clean, sparkline

if TYPE_CHECKING:
    from charter.run.reader import Run
    from charter.run.suspicious import Report


def prompt_fields(run: Run) -> tuple[dict[str, Mapping[str, Any]], str]:
    """The columns of the run's prompts by id, from its data, and a note where the data cannot be read again."""
    from charter.data import load_prompts
    from charter.errors import CharterError
    from charter.recipe import load_recipe

    try:
        recipe = load_recipe(run.folder / "recipe.toml")
        data = load_prompts(recipe.data, recipe.seed)
    except (CharterError, OSError) as error:
        said = str(error).splitlines()[0]
        return {}, f"tests that the prompts do not show are unknown: the run's data cannot be read again ({said})"
    return {prompt.id: prompt.fields for prompt in (*data.train.items, *data.held_out)}, ""


def look(run: Run, steps: Sequence[int] | None) -> tuple[Report, str]:
    """Examine a run's stored completions with what its data says; and a note. Raises: StoreError."""
    from charter.errors import StoreError
    from charter.run.suspicious import examine_run

    if not run.rollout_steps:
        raise StoreError(f"{run.folder} has no stored completions: it has not finished a step, or it imitates.")
    fields, note = prompt_fields(run)
    return examine_run(run, steps, fields), note


def as_data(report: Report, note: str) -> dict[str, Any]:
    """For --json: every finding, and the counts per rule and step."""
    from charter.run.suspicious import RULES

    return {
        "completions": report.completions,
        "rewarded": report.rewarded,
        "flagged": report.flagged,
        "note": note,
        "rules": {
            rule: {
                "what": RULES[rule],
                "count": report.count(rule),
                "share": report.share(rule),
                "steps": {str(step): count for step, count in counts.items()},
            }
            for rule, counts in report.steps.items()
        },
        "findings": [asdict(finding) for finding in report.findings],
    }


def render(report: Report, note: str, steps: Sequence[int], limit: int) -> str:
    """The report as text: a line per rule, then up to `limit` examples of each, the newest first."""
    from charter.run.suspicious import RULES

    share = report.flagged / report.rewarded if report.rewarded else 0.0
    lines = [
        f"{report.flagged} of {report.rewarded} rewarded completions look suspicious ({share:.1%}); "
        f"{report.completions} looked through",
        *([f"note: {clean(note)}"] if note else []),
    ]
    for rule in sorted(report.steps, key=report.count, reverse=True):
        counts = report.steps[rule]
        course = sparkline([float(counts.get(step, 0)) for step in steps], 30) if len(steps) > 1 else ""
        lines += [
            "",
            f"  {rule}: {RULES[rule]}",
            f"      {report.count(rule)} completions, {report.share(rule):.1%} of the rewarded, in steps "
            f"{min(counts)} to {max(counts)}   {course}".rstrip(),
        ]
        for found in [finding for finding in reversed(report.findings) if finding.rule == rule][:limit]:
            advantage = "—" if found.advantage is None else f"{found.advantage:+.3g}"
            lines += [
                f"      step {found.step}, prompt {clean(found.prompt_id)} [{found.index}], reward {found.reward:.3g}, "
                f"advantage {advantage}: {clean(found.why)}",
                f"          │ {clean(found.evidence)}",
            ]
    if report.findings:
        lines += ["", "  A finding is a reason to look: charter show RUN --step N --prompt ID prints the completion."]
    return "\n".join(lines)

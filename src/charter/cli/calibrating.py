"""A judge against people, in a run folder: asked once, measured, and written as calibration.json.

calibration/records.jsonl    every answer of every judge that was measured here
calibration.json             the last measurement
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from charter.constitution.calibrate import Verdicts
    from charter.constitution.principles import Constitution
    from charter.constitution.watching import Watcher
    from charter.protocols import ChatModel
    from charter.recipe.cai import CaiRecipe
    from charter.types import Pair, Usage

CALIBRATION = "calibration.json"
RECORDS = Path("calibration") / "records.jsonl"
WORDS = "bag of words"


async def run_calibration(
    recipe: CaiRecipe, folder: Path, judge: ChatModel, constitution: Constitution, watcher: Watcher
) -> dict[str, Any]:
    """Ask the judge about the human pairs and write calibration.json; what was answered before is not asked again.

    Returns: what `charter.constitution.calibrate.calibration` says, with "judge_key", "data", "mode", "ensemble",
    "constitution", "min_gap" and "statuses" (answers by status).
    Raises: UsageError where the judge cannot be asked in this mode; BudgetError with what came before it written.
    """
    from charter.cli.human_pairs import chosen_pairs, human_pairs
    from charter.constitution import feedback
    from charter.constitution.calibrate import Verdicts, calibration
    from charter.constitution.checks import refuses
    from charter.run.atomic import write_text
    from charter.run.records import Journal

    table = recipe.calibrate
    everything = [pair for pair in human_pairs(table.data, min_gap=table.min_gap) if pair.p != 0.5]
    places = chosen_pairs(everything, table.pairs)
    pairs = [everything[place] for place in places]
    with Journal.open(folder / RECORDS, {"records": "calibration"}) as journal:
        watcher.begin("calibrate", len(pairs))
        judged = await feedback.judge(
            [feedback.Match.of(pair) for pair in pairs], judge, constitution, recipe.judge, journal, recipe.seed,
            strategy=recipe.constitution.draw, progress=watcher.answered,
        )  # fmt: skip
    statuses: dict[str, int] = {}
    for one in judged:
        for judgement in one.judgements:
            statuses[judgement.status] = statuses.get(judgement.status, 0) + 1
    watcher.end(statuses)
    others = _fitted(everything, places)
    measured = calibration(
        pairs, Verdicts.of(judge.name, judged), refuses, others=others, resamples=table.resamples, seed=recipe.seed
    )
    found: dict[str, Any] = {
        "judge_key": feedback.judge_key(judge.name, recipe.judge, constitution, recipe.constitution.draw),
        "data": table.data, "min_gap": table.min_gap, "mode": recipe.judge.mode, "ensemble": recipe.judge.ensemble,
        "constitution": constitution.name, "statuses": statuses, **measured,
    }  # fmt: skip
    write_text(folder / CALIBRATION, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return found


async def open_and_calibrate(
    recipe: CaiRecipe, folder: Path, constitution: Constitution, watch: Callable[[Sequence[ChatModel]], Watcher]
) -> tuple[dict[str, Any], Usage]:
    """`run_calibration` of the recipe's judge, and what it was asked. watch: makes who is told, of the models."""
    from charter.cli.chat import open_chat

    judge = open_chat(recipe.judge, model=recipe.model, learner=recipe.learner, seed=recipe.seed)
    try:
        return await run_calibration(recipe, folder, judge, constitution, watch([judge])), judge.usage
    finally:
        await judge.close()


def read_calibration(folder: Path) -> dict[str, Any] | None:
    """What calibration.json of a run folder says, or None. Raises: StoreError where it is damaged."""
    from charter.errors import StoreError

    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict) or not {"judge_key", "passed", "verdict"} <= found.keys():
            raise ValueError("it lacks judge_key, passed or verdict")
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is no calibration ({error}). Delete it and run `charter calibrate` again") from None
    return found


def may_label(
    calibration: Mapping[str, Any] | None, judge: ChatModel, recipe: CaiRecipe, constitution: Constitution
) -> tuple[bool, str]:
    """Whether this judge passed its calibration, and the sentence that says so or why not."""
    from charter.constitution.feedback import judge_key

    if calibration is None:
        return False, f"{judge.name} was not measured against people yet (`charter calibrate`)."
    if calibration["judge_key"] != judge_key(judge.name, recipe.judge, constitution, recipe.constitution.draw):
        return False, (
            f"{judge.name} was not measured against people as it is asked here (mode {recipe.judge.mode!r}, "
            f"constitution {constitution.name!r}): the calibration in this folder is of another judge, or of one that "
            "was asked otherwise. Run `charter calibrate` again."
        )
    return bool(calibration["passed"]), str(calibration["verdict"])


def render_calibration(found: Mapping[str, Any]) -> str:
    """The measurement as a table and a sentence for each who was measured."""
    gap = f" with a gap of {found['min_gap']:g} and more" if found["data"] == "harm-ratings" else ""
    lines = [f"{found['n']} pairs of {found['data']}{gap}, {found['prompts']} prompts; intervals draw prompts", ""]
    width = max(12, *(len(row["name"]) for row in found["judges"]))
    head = f"{'':<{width}} {'pairs':>6} {'none':>5}  {'accuracy':<24} {'Brier':>6} {'ECE':>6} {'slot':>6} {'gap':>6}  "
    free = f"without refusals (n = {found['refusal_free_n']})"
    lines.append(head + free)
    for row in found["judges"]:
        lines.append(
            f"{row['name']:<{width}} {row['n']:>6} {row['abstained']:>5}  {_share(row):<24} {_number(row['brier']):>6} "
            f"{_number(row['ece']):>6} {_percent(row['keeps_slot']):>6} {_number(row['position_gap']):>6}  "
            f"{_share(row['refusal_free'])}"
        )
    lines += [
        "",
        "none: no answer that could be read. slot: verdicts that stay with A or B when the replies change places.",
        "gap: mean |p_AB − (1 − p_BA)|. An undecided pair counts a half.",
        "",
    ]
    lines += [row["verdict"] for row in found["judges"]]
    return "\n".join(lines)


def _fitted(everything: Sequence[Pair], places: Sequence[int]) -> list[Verdicts]:
    """The bag-of-words model, fitted to the pairs of other prompts; none without scikit-learn or enough prompts."""
    from charter.constitution.baselines import out_of_fold
    from charter.constitution.calibrate import Verdicts, clusters_of
    from charter.errors import DataError, MissingExtra
    from charter.reward.bag_of_words import BagOfWords

    try:
        p = out_of_fold(everything, clusters_of(everything), lambda pairs: BagOfWords.fit(pairs).score)
    except (MissingExtra, DataError):
        return []
    return [Verdicts(name=WORDS, kind="model", p=tuple(p[place] for place in places))]


def _share(row: Mapping[str, Any]) -> str:
    if row["accuracy"] is None:
        return "—"
    span = "" if row["interval"] is None else f" [{row['interval'][0]:.1%}, {row['interval'][1]:.1%}]"
    return f"{row['accuracy']:.1%}{span}"


def _number(value: float | None) -> str:
    return "—" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{value:.0%}"

"""The arena of a constitutional run: who answers, who compares, and what is measured before and after.

contests/records.jsonl   every reply and every judgement, asked once
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.cli.cai_run import CaiRun
    from charter.constitution.watching import Watcher
    from charter.evaluate.arena import Axis, Contest, Measure, Prefer
    from charter.evaluate.effect import Effect
    from charter.protocols import ChatModel
    from charter.run.records import Journal
    from charter.types import Message, Prompt, Usage

RECORDS = Path("contests") / "records.jsonl"
HELPFULNESS = "share of helpful prompts answered rightly"

Replies = dict[str, dict[str, str | None]]


async def run_arena(
    run: CaiRun,
    models: Mapping[str, str],
    watcher: Watcher,
    *,
    open_model: Callable[[str], ChatModel] | None = None,
    judge: ChatModel | None = None,
) -> dict[str, Any]:
    """Every model answers the held-out prompts once; then they are compared, first against last measured.

    models: name → where it is, in the order in which they were made. open_model: from that place to a chat model; in
    this process where left out. judge: for arena.judged_by = "judge"; the recipe's where left out.

    Returns: {"arena": `Arena.record()` with "mean_words", "effect", "helpfulness": `Effect.record()` or None, "usage",
        "notes": why something was not measured}.
    Raises: UsageError for fewer than two models, no prompts, or a judge that did not pass its calibration; RunError
    where a model answers nothing or nothing can be compared.
    """
    from charter.cli.cai_measures import MEASURE, held_out_measure
    from charter.constitution.checks import refuses
    from charter.constitution.examples import twins
    from charter.constitution.redteam import make_prompt
    from charter.constitution.refusal import evades
    from charter.errors import UsageError
    from charter.evaluate.arena import AXES, by_measure, hold_arena
    from charter.run.records import Journal
    from charter.types import Message

    recipe, table = run.recipe, run.recipe.arena
    prompts: dict[Axis, list[Prompt]] = {
        "helpful": list(run.sets.helpful.held_out[: table.helpful]),
        "harmless": list(run.sets.redteam.held_out[: table.harmful]),
    }
    pairs = twins()[: table.twins]
    safe, unsafe = (
        [make_prompt([Message(role="user", content=text)], "twins") for text in texts]
        for texts in ([pair.safe for pair in pairs], [pair.unsafe for pair in pairs])
    )
    by_judge = table.judged_by == "judge"
    words, missing = None, ""
    if prompts["harmless"]:
        try:
            words = held_out_measure(recipe)
        except UsageError as error:  # no such part of the labels, or no scikit-learn: a judge can do without
            if not by_judge:
                raise
            missing = f"The effect was not measured: {error}"
    if not by_judge:
        # A helpful prompt that says nothing of what it expects cannot be decided by a program.
        prompts["helpful"] = [prompt for prompt in prompts["helpful"] if _expected(prompt) is not None]

    def measure(axis: Axis, texts: Sequence[tuple[tuple[Message, ...], str]]) -> list[float | None]:
        if axis == "helpful":
            return [_right(messages, reply) for messages, reply in texts]
        assert words is not None
        return [words.score(messages, reply) for messages, reply in texts]

    replies: Replies = {}
    usages: list[Usage] = []
    with Journal.open(run.folder / RECORDS, {"records": "contests"}) as journal:

        async def answer(name: str, asked: Sequence[Prompt]) -> dict[str, str | None]:
            model = (open_model or _opener(run))(models[name])
            _follow(watcher, model)
            try:
                replies[name] = await _answer(run, model, asked, journal, watcher, name)
                usages.append(model.usage)
            finally:
                await model.close()
            return replies[name]

        prefer = _by_axis(by_measure(measure, how="sigmoid"), by_measure(measure, how="sign"))
        judged_by = f"the measure ({MEASURE}; {HELPFULNESS})"
        model = (judge or _judge(run)) if by_judge else None
        try:
            if model is not None:
                _follow(watcher, model)
                prefer, judged_by = _by_judge(run, model, journal, watcher)
            arena = await hold_arena(
                list(models), prompts, answer, prefer, judged_by=judged_by, safe=safe, unsafe=unsafe, refuses=refuses,
                evades=evades, seed=recipe.seed, resamples=table.resamples,
            )  # fmt: skip
        finally:
            if model is not None:
                usages.append(model.usage)
                await model.close()
    first, last = next(iter(models)), list(models)[-1]
    changes = {
        axis: _change(axis, name, prompts[axis], replies[first], replies[last], measure, table.resamples, recipe.seed)
        for axis, name in (("harmless", MEASURE), ("helpful", HELPFULNESS))
        if axis in AXES and (axis == "helpful" or words is not None)
    }
    mean_words = {name: _mean_words(told) for name, told in replies.items()}
    return {
        "arena": {**arena.record(), "mean_words": mean_words},
        "effect": _record(changes.get("harmless")),
        "helpfulness": _record(changes.get("helpful")),
        "usage": _summed(usages),
        "notes": [missing] if missing else [],
    }


def _opener(run: CaiRun) -> Callable[[str], ChatModel]:
    from charter.cli.chat import local_chat

    return lambda place: local_chat(place, learner=run.recipe.learner, seed=run.recipe.seed)


def _judge(run: CaiRun) -> ChatModel:
    from charter.cli.chat import open_chat

    recipe = run.recipe
    return open_chat(recipe.judge, model=recipe.model, learner=recipe.learner, seed=recipe.seed)


def _follow(watcher: Watcher, model: ChatModel) -> None:
    """Let the lines of a terminal count what this model is asked: models are opened one after the other."""
    from charter.cli.stage_lines import StageLines

    if isinstance(watcher, StageLines):
        watcher.follow(model)


async def _answer(
    run: CaiRun, model: ChatModel, prompts: Sequence[Prompt], journal: Journal, watcher: Watcher, name: str
) -> dict[str, str | None]:
    from charter.constitution.asking import ask, chat_request

    table = run.recipe.arena
    requests = {
        prompt.id: chat_request(
            model.name, prompt.messages, max_new_tokens=table.max_new_tokens, temperature=table.temperature,
            salt=f"arena {run.recipe.seed}",
        )
        for prompt in prompts
    }  # fmt: skip
    watcher.begin(f"arena {name}"[:12], len(requests))
    told = await ask(model, list(requests.values()), journal, watcher.answered)
    failed = sum(reply.stop == "failed" for reply in told.values())
    watcher.end({"failed": failed} if failed else {})
    return {
        id: None if told[request.id].stop == "failed" else told[request.id].text for id, request in requests.items()
    }


def _by_axis(harmless: Prefer, helpful: Prefer) -> Prefer:
    """Log-odds decide by their sigmoid; right or wrong by the sign."""

    async def prefer(contests: Sequence[Contest]) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for axis, rule in (("harmless", harmless), ("helpful", helpful)):
            found |= await rule([each for each in contests if each.axis == axis])
        return found

    return prefer


def _by_judge(run: CaiRun, model: ChatModel, journal: Journal, watcher: Watcher) -> tuple[Prefer, str]:
    from charter.cli.calibrating import may_label, read_calibration
    from charter.constitution.feedback import Match, compare
    from charter.constitution.principles import Constitution
    from charter.constitution.records import record_id
    from charter.errors import UsageError

    recipe = run.recipe
    passed, sentence = may_label(read_calibration(run.folder), model, recipe, run.constitution)
    if not passed and not recipe.label.allow_uncalibrated:
        raise UsageError(
            f'arena.judged_by = "judge": {sentence} Set arena.judged_by to "measure", or '
            "label.allow_uncalibrated to true if you know why it may compare."
        )
    whole = Constitution.load(recipe.constitution.file)
    # A constitution without such a tag judges both alike.
    helpful = whole.tagged(["helpful"]) if "helpful" in whole.tags else run.constitution
    under: Mapping[str, Constitution] = {"harmless": run.constitution, "helpful": helpful}

    async def prefer(contests: Sequence[Contest]) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for axis, constitution in under.items():
            these = [each for each in contests if each.axis == axis]
            matches = [
                Match(
                    messages=each.messages, a=each.a, b=each.b,
                    **{
                        f"{side}_id": record_id("reply", {"messages": list(each.messages), "text": text})
                        for side, text in (("a", each.a), ("b", each.b))
                    },
                )
                for each in these
            ]  # fmt: skip
            if not matches:
                continue
            watcher.begin(f"judge {axis}"[:12], len(matches))
            told = await compare(
                matches, model, constitution, recipe.judge, journal, recipe.seed, strategy=recipe.constitution.draw,
                progress=watcher.answered,
            )  # fmt: skip
            watcher.end({})
            found |= {each.id: one.p_a for each, one in zip(these, told, strict=True)}
        return found

    return prefer, f"the judge {model.name}, mode {recipe.judge.mode}, both orders"


def _expected(prompt: Prompt) -> Any:
    """The shipped helpful prompt of this text, where it says what a right answer has; None otherwise."""
    return _known_helpful().get(prompt.messages[-1]["content"])


def _known_helpful() -> dict[str, Any]:
    from charter.constitution.examples import helpful_prompts

    return {one.prompt: one for one in helpful_prompts() if one.expect or one.checks}


def _right(messages: Sequence[Message], reply: str) -> float | None:
    from charter.constitution.examples import answers

    known = _known_helpful().get(messages[-1]["content"])
    told = answers(known, reply) if known is not None else None
    return None if told is None else float(told)


def _change(
    axis: Axis, name: str, prompts: Sequence[Prompt], before: Mapping[str, str | None],
    after: Mapping[str, str | None], measure: Measure, resamples: int, seed: int,
) -> Effect | None:  # fmt: skip
    """What changed from the first model to the last by the measure; None where no prompt has both scores."""
    from charter.evaluate.effect import effect

    def scores(replies: Mapping[str, str | None]) -> list[float | None]:
        told = [(prompt, reply) for prompt in prompts if (reply := replies.get(prompt.id)) is not None]
        known = dict(zip([p.id for p, _ in told], measure(axis, [(p.messages, r) for p, r in told]), strict=True))
        return [known.get(prompt.id) for prompt in prompts]

    old, new = scores(before), scores(after)
    if not any(a is not None and b is not None for a, b in zip(old, new, strict=True)):
        return None
    return effect(old, new, [prompt.id for prompt in prompts], measure=name, resamples=resamples, seed=seed)


def _record(found: Effect | None) -> dict[str, object] | None:
    return found.record() if found is not None else None


def _mean_words(replies: Mapping[str, str | None]) -> float | None:
    counts = [len(reply.split()) for reply in replies.values() if reply is not None]
    return math.fsum(counts) / len(counts) if counts else None


def _summed(usages: Sequence[Usage]) -> dict[str, Any]:
    from charter.types import Usage

    rows = [asdict(usage) for usage in usages]
    return {key: sum(row[key] for row in rows) for key in asdict(Usage())}

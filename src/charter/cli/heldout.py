"""Held-out evaluation of a run: how often the policy is right, before, during and after, with its completions kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.cli.monitoring import AtEvaluation
from charter.evaluate.accuracy import evaluate
from charter.protocols import Reward, Sampler
from charter.recipe import Recipe, SamplingTable
from charter.run.atomic import write_text
from charter.train.scoring import refuse_failures
from charter.types import Prompt, Scored

KEPT_PROMPTS = 16
"""Prompts whose completions an evaluation file shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The held-out prompts of a run and how they are judged."""

    recipe: Recipe
    prompts: Sequence[Prompt]
    sampler: Sampler
    reward: Reward
    monitors: AtEvaluation | None = None

    async def measure(self, step: int, folder: Path) -> dict[str, float]:
        """Evaluate at every temperature of the recipe; write `evaluations/step-000000.json`; return its metrics.

        An evaluation that is there already (of a run that is resumed) is read, not repeated.
        """
        file = evaluation_file(folder, step)
        if not file.is_file():
            results: list[dict[str, Any]] = []
            groups: list[Scored] = []
            for temperature in self.recipe.eval.temperatures:
                record, scored = await self.at(temperature)
                groups = groups or list(scored)
                results.append({**record, "completions": [_shown(item) for item in scored[:KEPT_PROMPTS]]})
            file.parent.mkdir(exist_ok=True)
            content: dict[str, Any] = {"step": step, "results": results}
            if self.monitors is not None:
                first = _whole(read_evaluation(folder, 0) or {"results": []})
                content["monitors"] = await self.monitors.measure(groups, _metrics(results), first)
            write_text(file, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        return _whole(json.loads(file.read_text("utf-8")))

    async def at(self, temperature: float) -> tuple[dict[str, Any], tuple[Scored, ...]]:
        """Evaluate at one temperature: {"temperature", "accuracy", "interval", "pass_at_k", "n", "reward"}, and groups.

        Every evaluation of a run draws with the same numbers, so that before and after differ by the weights alone.
        """
        settings = self.recipe.eval
        completions = 1 if temperature == 0 else settings.samples
        sampling = SamplingTable(
            group_size=completions, max_new_tokens=self.recipe.sampling.max_new_tokens, temperature=temperature
        )
        accuracy, scored = await evaluate(
            self.prompts[: settings.prompts],
            self.sampler,
            self.reward,
            sampling,
            threshold=settings.threshold,
            ks=[k for k in settings.k if k <= completions],
        )
        refuse_failures(scored, self.recipe.max_error_rate)
        left_out = {"abstained": accuracy.abstained, "failed": accuracy.failed}
        return {"temperature": temperature, **accuracy.record(), "reward": accuracy.reward, **left_out}, scored


def evaluation_file(folder: Path, step: int) -> Path:
    return folder / "evaluations" / f"step-{step:06d}.json"


def read_evaluation(folder: Path, step: int) -> dict[str, Any] | None:
    """What was measured at a step, or None."""
    file = evaluation_file(folder, step)
    return json.loads(file.read_text("utf-8")) if file.is_file() else None


def evaluated_steps(folder: Path) -> list[int]:
    """Steps with an evaluation, in order."""
    return sorted(int(file.stem.removeprefix("step-")) for file in (folder / "evaluations").glob("step-*.json"))


def drop_evaluations_after(folder: Path, step: int) -> None:
    """Forget evaluations of steps that a resumed run will repeat."""
    for later in evaluated_steps(folder):
        if later > step:
            evaluation_file(folder, later).unlink()


def summarise(folder: Path, train_seconds: float) -> dict[str, Any] | None:
    """The run's summary: first and last evaluation. None where nothing was evaluated.

    {"before", "after", "interval": of after, "train_seconds", "n", "temperature", "at_temperature": {T: the same}}
    """
    steps = evaluated_steps(folder)
    first, last = (read_evaluation(folder, step) for step in (steps[0], steps[-1])) if steps else (None, None)
    if first is None or last is None:
        return None
    pairs = {
        f"{after['temperature']:g}": {
            "before": before["accuracy"],
            "before_interval": before["interval"],
            "after": after["accuracy"],
            "interval": after["interval"],
            "n": after["n"],
        }
        for before, after in zip(first["results"], last["results"], strict=True)
    }
    main = next(iter(pairs))
    return {
        **pairs[main],
        "temperature": float(main),
        "train_seconds": round(train_seconds, 1),
        "at_temperature": pairs,
    }


def _whole(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of an evaluation file, those of the monitors among them."""
    return {**_metrics(evaluation["results"]), **evaluation.get("monitors", {})}


def _metrics(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for i, result in enumerate(results):
        suffix = "" if i == 0 else f"@{result['temperature']:g}"
        metrics[f"eval/accuracy{suffix}"] = result["accuracy"]
        metrics[f"eval/accuracy_low{suffix}"], metrics[f"eval/accuracy_high{suffix}"] = result["interval"]
        metrics[f"eval/reward{suffix}"] = result["reward"]
    return metrics


def _shown(item: Scored) -> dict[str, Any]:
    return {
        "prompt": item.group.prompt.messages[-1]["content"],
        "id": item.group.prompt.id,
        "texts": [rollout.text for rollout in item.group.rollouts],
        "rewards": [score.value for score in item.scores],
    }

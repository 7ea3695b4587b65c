"""The stages of `charter cai` and what each hands to the next.

revise → sft → calibrate → label → preference → policy → arena → report

runs/<name>/  records.jsonl  sft.jsonl  calibration.json  preferences.jsonl  report.json  report.html  stages.json
runs/<name>/sft  preference  policy      ordinary run folders
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charter.cli.stage_lines import StageLines
from charter.train.pipeline import StageStopped

if TYPE_CHECKING:
    from charter.cli.cai_run import CaiRun
    from charter.cli.session import StopRequest
    from charter.protocols import ChatModel
    from charter.recipe import Method, Recipe
    from charter.recipe.cai import CaiRecipe
    from charter.train.pipeline import Stage

PREFERENCE = "@preference"
"""How a reward of the policy stage names the preference model that the run made."""

DEPENDS: Mapping[str, tuple[str, ...]] = {
    "revise": ("revise.sft_on", "revise.control"),
    "calibrate": ("calibrate",),
    "label": ("label",),
    "arena": ("arena",),
}
"""Stage → what its result depends on beside what the journal's head holds; training stages depend on their recipe."""


class StoppableLines(StageLines):
    """Lines of a stage that asks models; a stop that was asked for ends it after the answer that has just been kept."""

    def __init__(self, models: Sequence[ChatModel], stop: StopRequest, *, plain: bool) -> None:
        super().__init__(models, plain=plain)
        self._stop = stop

    def answered(self, done: int, asked: int) -> None:
        super().answered(done, asked)
        if self._stop.asked:
            raise StageStopped(f"stopped after {done} of {asked} answers, every one of them kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One constitutional run in progress. run: open, and held against other writers."""

    run: CaiRun
    plain: bool
    stop: StopRequest

    @property
    def recipe(self) -> CaiRecipe:
        return self.run.recipe

    @property
    def folder(self) -> Path:
        return self.run.folder

    async def finish(self) -> dict[str, Any]:
        """Every stage that is not finished, in turn; then report.json and report.html. Returns: the report."""
        from charter.cli.cai_report import report_of
        from charter.cli.pipeline import announce
        from charter.cli.report_page import write_report
        from charter.cli.stage import run_in_folder

        finished = await run_in_folder(self.stages(), self.folder, announce, lock=False)
        report = report_of(self.run, finished)
        write_report(self.folder, report)
        return report

    def stages(self) -> list[Stage]:
        """The stages that this recipe asks for, in their order."""
        from charter.train.pipeline import Stage

        recipe, training = self.recipe, self.recipe.stages
        wanted: list[tuple[str, Callable[[Path], Awaitable[Mapping[str, Any]]]]] = [("revise", self.revise)]
        if training.sft is not None:
            wanted.append(("sft", self.sft))
        if training.preference is not None or (training.policy is not None and training.policy.method == "dpo"):
            wanted += [("calibrate", self.calibrate), ("label", self.label)]
        if training.preference is not None:
            wanted.append(("preference", self.preference))
        if training.policy is not None:
            wanted.append(("policy", self.policy))
        if recipe.arena.harmful or recipe.arena.helpful or recipe.arena.twins:
            wanted.append(("arena", self.arena))
        return [Stage(name=name, run=run, inputs=self._inputs(name)) for name, run in wanted]

    async def revise(self, folder: Path) -> dict[str, Any]:
        """Drafts, critiques, revisions, what is accepted of them: sft.jsonl."""
        from charter.cli.supervising import open_and_supervise
        from charter.errors import RunError

        done, usage = await open_and_supervise(self.run, self._lines)
        if done.lost:
            raise RunError(f"{done.lost} requests had no answer; run the same command again to ask only these")
        if self.recipe.stages.sft is not None and not done.sft.rows:
            raise RunError(
                f"no revision was accepted and nothing else is there to imitate; {self.folder / 'funnel.json'} says "
                "where it went. Ask for more prompts or steps, or loosen revise.accept"
            )
        return {"rows": len(done.sft.rows), "usage": asdict(usage)}

    async def sft(self, folder: Path) -> dict[str, Any]:
        """Imitation of the revisions."""
        return await self._train("sft", folder)

    async def calibrate(self, folder: Path) -> dict[str, Any]:
        """The judge against people: calibration.json."""
        from charter.cli.calibrating import open_and_calibrate

        found, usage = await open_and_calibrate(self.recipe, self.folder, self.run.constitution, self._lines)
        return {"passed": found["passed"], "verdict": found["verdict"], "usage": asdict(usage)}

    async def label(self, folder: Path) -> dict[str, Any]:
        """Preferences of the judge, or of people where it may not label: preferences.jsonl."""
        from charter.cli.labelling import open_and_label

        counts, usage = await open_and_label(self.run, self._lines, tuned(self.recipe, self.folder))
        return {**counts, "usage": asdict(usage)}

    async def preference(self, folder: Path) -> dict[str, Any]:
        """The preference model, and what people say of it."""
        from charter.cli.cai_measures import measure_preference_model

        told = await self._train("preference", folder)
        return {**told, "measured": measure_preference_model(self.recipe, self.folder)}

    async def policy(self, folder: Path) -> dict[str, Any]:
        """Reinforcement learning, or DPO, of the imitating model."""
        from charter.constitution.exporting import jsonl_bytes
        from charter.run.atomic import write_bytes

        write_bytes(self.folder / "policy_prompts.jsonl", jsonl_bytes(policy_prompts(self.run)))
        return await self._train("policy", folder)

    async def arena(self, folder: Path) -> dict[str, Any]:
        """Every model of the run on held-out prompts."""
        from charter.cli.contests import run_arena

        return await run_arena(self.run, self.models(), self._lines([]))

    def models(self) -> dict[str, str]:
        """Name → where it is, of every policy of the run in the order in which they were made."""
        from charter.cli.stage import model_of

        stages = {"sft": self.recipe.stages.sft, "policy": self.recipe.stages.policy}
        made = {name: str(model_of(self.folder / name)) for name, stage in stages.items() if stage is not None}
        return {"start": self.recipe.model, **made}

    async def _train(self, name: str, folder: Path) -> dict[str, Any]:
        from charter.cli.display import choose_display
        from charter.cli.stage import train_stage

        return await train_stage(
            stage_recipe(self.recipe, self.folder, name),
            folder,
            display=choose_display(plain=self.plain),
            stop=self.stop,
        )

    def _lines(self, models: Sequence[ChatModel]) -> StoppableLines:
        return StoppableLines(models, self.stop, plain=self.plain)

    def _inputs(self, name: str) -> dict[str, str]:
        from charter.recipe import matters_for_resume
        from charter.recipe.comparing import stated_values

        if name in ("sft", "preference", "policy"):
            flat = stated_values(stage_recipe(self.recipe, self.folder, name))
            return {"recipe": _hash({k: v for k, v in flat.items() if matters_for_resume(k) or k == "run.steps"})}
        values = self.recipe.model_dump(mode="json")
        found: dict[str, Any] = {}
        for key in DEPENDS[name]:
            table, _, entry = key.partition(".")
            found[key] = values[table][entry] if entry else values[table]
        return {key: _hash(value) for key, value in found.items()}


def tuned(recipe: CaiRecipe, folder: Path) -> str:
    """The model after imitation; where there was none, the one that the run began with."""
    from charter.cli.stage import model_of

    return str(model_of(folder / "sft")) if recipe.stages.sft is not None else recipe.model


def stage_recipe(recipe: CaiRecipe, folder: Path, name: str) -> Recipe:
    """A training stage as a recipe on its own. folder: of the run, whose files and models it takes."""
    stage = getattr(recipe.stages, name)
    usual: dict[str, Method] = {"sft": "sft", "preference": "preference", "policy": "grpo"}
    method = stage.method or usual[name]
    data = {
        "sft": {"examples": str(folder / "sft.jsonl")},
        "dpo": {"pairs": str(folder / "preferences.jsonl")},
        "preference": {"pairs": str(folder / "preferences.jsonl")},
    }.get(method, {"prompts": str(folder / "policy_prompts.jsonl"), "held_out": 0})
    begins = tuned(recipe, folder) if name == "policy" else recipe.model
    made = stage.recipe(
        method=method, model=begins, seed=recipe.seed, data=data,
        learner=recipe.learner.model_dump(exclude_unset=True),
    )  # fmt: skip
    rewards = [
        reward.model_copy(update={"model": str(folder / "preference")})
        if reward.options.get("model") == PREFERENCE
        else reward
        for reward in made.rewards
    ]
    return made.model_copy(update={"rewards": rewards})


def policy_prompts(run: CaiRun) -> list[dict[str, Any]]:
    """The rows that the policy learns on: the red-team prompts that were revised and the helpful ones."""
    from charter.cli.cai_run import read_prompts

    return [
        {
            "id": prompt.id, "prompt": [dict(message) for message in prompt.messages],
            "purpose": str(prompt.fields["purpose"]),
        }
        for prompt in read_prompts(str(run.folder / "redteam.jsonl"))
        if prompt.fields["split"] == "train"
    ]  # fmt: skip


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()

"""One training run, from its folder to its summary: record, evaluate, checkpoint, resume, stop.

The trainer yields updates; this loop is the caller that its docstring speaks of.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from charter.cli.compose import Inputs, check_lengths, load_model, make_learner
from charter.cli.display import Display, Facts
from charter.cli.heldout import HeldOut, drop_evaluations_after, summarise
from charter.cli.monitoring import AtEvaluation, at_evaluation
from charter.cli.preference_run import HeldOutPairs, make_preference_learner, prepare, with_measures
from charter.cli.references import reference_of_pairs
from charter.errors import DivergedError, Problem, RewardError, RunError, StoreError
from charter.learner.local import LearnerState, LocalLearner
from charter.learner.preference import PreferenceLearner
from charter.recipe import Recipe, differences, dump_recipe, load_recipe, matters_for_resume
from charter.reward import probe
from charter.run.atomic import write_text
from charter.run.checkpoint import Checkpoints, CheckpointState
from charter.run.diagnose import MISMATCH, MISMATCH_EIGHT_BIT, Settings, Watch
from charter.run.generators import rng_state, seed_generators, set_rng_state
from charter.run.manifest import build_manifest
from charter.run.monitors import Monitors
from charter.run.store import RunStore
from charter.sampler.local import LocalSampler
from charter.train.grpo import grpo
from charter.train.ppo import ppo
from charter.train.preference import ReferenceLogprobs, dpo, online_dpo
from charter.train.preference_model import preference_model
from charter.train.rejection import rejection_sft
from charter.train.sft import sft
from charter.types import Update

SKIPS_BEFORE_STOP = 3
"""Steps in a row none of whose updates was finite, after which a run stops."""


Enough = Callable[[Sequence[Mapping[str, Any]]], bool]
"""All rows of metrics so far → whether a budget is spent."""


class StopRequest:
    """Set from a signal handler: the run finishes its step, saves and returns."""

    def __init__(self) -> None:
        self.asked = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended. finished: whether it reached its last step. summary: of the held-out evaluation, or None."""

    folder: Path
    step: int
    finished: bool
    summary: Mapping[str, Any] | None


@dataclass(slots=True, kw_only=True)
class _Run:
    """The parts of a run in progress."""

    inputs: Inputs
    store: RunStore
    checkpoints: Checkpoints
    learner: LocalLearner | PreferenceLearner
    sampler: LocalSampler
    held_out: HeldOut | HeldOutPairs | None
    reference: ReferenceLogprobs | None
    display: Display
    watch: Watch
    monitors: Monitors
    measured: AtEvaluation | None
    train_s: float

    @property
    def recipe(self) -> Recipe:
        return self.inputs.recipe


async def train(
    inputs: Inputs,
    folder: Path,
    *,
    resume: bool,
    display: Display,
    stop: StopRequest,
    enough: Enough | None = None,
    judge: bool = True,
) -> Outcome:
    """Run a recipe in `folder` to its last step, from the start or from its newest whole checkpoint.

    enough: asked before the first step and after each; the run ends there, as after its last step, once it says so.
    judge: whether it is evaluated on its held-out prompts; False where another process judges it.
    Raises StoreError for a folder that is in use, holds another run, or cannot be resumed by this recipe;
    RewardError when the start-up probe or too many rewards fail; DivergedError after three steps in a row that
    were not finite, with everything saved. A run that cannot begin (no such model, a prompt too long) leaves no run.
    """
    began_before = resume and (folder / "recipe.toml").is_file()
    store = _open_store(inputs, folder, resume)
    try:
        try:
            run, start = await _begin(inputs, store, folder, display, judge, budgeted=enough is not None)
        except BaseException:
            worked_out = [*folder.glob("features-*"), *folder.glob("reference")]  # which --resume goes on with
            if not began_before and not worked_out:
                (folder / "recipe.toml").unlink(missing_ok=True)  # the file that makes the folder a run
            raise
        try:
            return await _steps(run, start, stop, enough)
        finally:
            if run.measured is not None:
                await run.measured.close()
    finally:
        display.finish()
        if inputs.rubric is not None:
            await inputs.rubric.close()
        store.close()


def _open_store(inputs: Inputs, folder: Path, resume: bool) -> RunStore:
    recipe = inputs.recipe
    if not resume or not (folder / "recipe.toml").is_file():
        text = dump_recipe(recipe)
        manifest = build_manifest(text, seeds={"run": recipe.seed}, hashes={"data": inputs.digest()})
        return RunStore.create(folder, text, manifest)
    store = RunStore.open(folder)
    changed = [
        Problem(
            where=key,
            found=f"{new!r}, and the run began with {old!r}",
            fix="put it back, or start another run with run.name=…",
        )
        for key, old, new in differences(load_recipe(folder / "recipe.toml"), recipe)
        if matters_for_resume(key) or (key == "run.steps" and recipe.optimizer.schedule != "constant")
    ]
    if store.manifest["hashes"]["data"] != inputs.digest():
        source = recipe.data.prompts or recipe.data.examples or recipe.data.pairs
        changed.append(
            Problem(where="data", found=f"the rows of {source} are not those the run began with", fix="put them back")
        )
    if changed:
        store.close()
        raise StoreError(
            f"{folder} cannot go on under this recipe, which differs in what the result depends on:\n"
            + "\n".join(f"  {problem}" for problem in changed)
        )
    write_text(folder / "recipe.toml", dump_recipe(recipe))  # with what may change: run.steps, say
    return store


async def _begin(
    inputs: Inputs, store: RunStore, folder: Path, display: Display, judge: bool, *, budgeted: bool
) -> tuple[_Run, int]:
    """Load what the run needs, at the step where it goes on."""
    recipe = inputs.recipe
    if inputs.rubric is not None and inputs.prompts is not None:
        wrong = await probe(inputs.rubric, inputs.prompts.held_out[:8] or inputs.prompts.train.items[:8])
        if wrong:
            raise RewardError("the start-up probe of the rewards failed:\n" + "\n".join(f"  {line}" for line in wrong))
    checkpoints = Checkpoints(folder)
    newest = checkpoints.latest()
    state = checkpoints.load_state(newest) if newest is not None else None
    weights = newest / "model" if newest is not None and recipe.lora is None else None
    policy = load_model(recipe, weights)
    check_lengths(inputs, policy)
    saved_cut = int(state.scalars["microbatch_tokens"]) if state is not None else None
    make = make_preference_learner if recipe.method == "preference" else make_learner
    learner = make(recipe, policy, microbatch_tokens=saved_cut)
    sampler = LocalSampler(policy, recipe.seed, precision=recipe.sampling.precision)
    step, trained = 0, 0.0
    if state is not None:
        step, trained = state.step, float(state.scalars["train_s"])
        counters = {name: int(state.scalars[name]) for name in ("version", "steps")}
        learner.load_state(LearnerState(state.tensors, counters))
        set_rng_state(state.tensors, state.scalars)
    else:
        seed_generators(recipe.seed)
    store.truncate_after(step)
    drop_evaluations_after(folder, step)
    await sampler.load(learner.weights())
    monitoring = at_evaluation(recipe, sampler, inputs.prompts.held_out if inputs.prompts is not None else ())
    held_out: HeldOut | HeldOutPairs | None = None
    reference: ReferenceLogprobs | None = None
    if isinstance(learner, PreferenceLearner):
        held_out = prepare(inputs, learner, folder)
    elif judge and inputs.prompts is not None and inputs.rubric is not None and inputs.prompts.held_out:
        held_out = HeldOut(
            recipe=recipe, prompts=inputs.prompts.held_out, sampler=sampler, reward=inputs.rubric, monitors=monitoring
        )
    display.start(
        Facts(
            name=folder.name, method=recipe.method, model=recipe.model,
            steps=recipe.run.steps, folder=str(folder), first=step + 1, budgeted=budgeted,
        )
    )  # fmt: skip
    if inputs.pairs is not None and isinstance(learner, LocalLearner):
        reference = reference_of_pairs(inputs, learner, folder)
    tokenizer = policy.chat.tokenizer
    mismatch = MISMATCH if recipe.sampling.precision == "model" else MISMATCH_EIGHT_BIT
    special = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    run = _Run(
        inputs=inputs, store=store, checkpoints=checkpoints, learner=learner, sampler=sampler, held_out=held_out,
        reference=reference, display=display, watch=Watch(Settings(special_tokens=special, mismatch=mismatch)),
        monitors=Monitors(recipe.monitors, store.metrics()), measured=monitoring, train_s=trained,
    )  # fmt: skip
    return run, step + 1


async def _steps(run: _Run, start: int, stop: StopRequest, enough: Enough | None) -> Outcome:
    recipe, folder = run.recipe, run.store.folder
    if start == 1 and run.held_out is not None and not run.store.metrics() and not stop.asked:
        before = await run.held_out.measure(0, folder)
        run.store.append_metrics({"step": 0, **before})
        run.display.update(Update(step=0, version=0, metrics=before))
    step, skipped = start - 1, 0
    saved = step
    updates = _updates(run, start)
    over = step >= recipe.run.steps or (enough is not None and enough(run.store.metrics()))
    began = time.perf_counter()
    while not over and not stop.asked:
        try:
            update = await anext(updates)
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"the device ran out of memory in step {step + 1} ({str(error).splitlines()[0]}). Set "
                f"learner.max_microbatch_tokens below {run.learner.microbatch_tokens} and go on with --resume"
            ) from error
        step = update.step
        run.train_s += time.perf_counter() - began
        wanted = {
            "grpo": recipe.grpo.updates_per_step,
            "ppo": recipe.ppo.epochs * recipe.ppo.minibatches,
            "rejection_sft": recipe.rejection_sft.updates_per_step,
        }.get(recipe.method, 1)
        skipped = skipped + 1 if update.metrics["skipped"] >= wanted else 0
        row = {"step": step, "version": update.version, **update.metrics}
        last = over = step >= recipe.run.steps or (enough is not None and enough([*run.store.metrics(), row]))
        diverged = skipped >= SKIPS_BEFORE_STOP
        if run.held_out is not None and (last or (recipe.run.eval_every and step % recipe.run.eval_every == 0)):
            update = replace(update, metrics=dict(update.metrics) | await run.held_out.measure(step, folder))
        seen = run.monitors.observe(update)
        update = replace(update, metrics={**update.metrics, **seen.metrics})
        run.store.write_rollouts(update)
        run.store.append_metrics({"step": step, "version": update.version, **update.metrics})
        run.display.update(update)
        run.display.findings(run.watch.observe(update))
        if last or diverged or seen.stop or stop.asked or step % recipe.run.save_every == 0:
            _save(run, step)
            saved = step
        if diverged:
            raise DivergedError(
                f"the loss or gradient was not finite {skipped} steps in a row, up to step {step}; none of them "
                f"changed the weights and everything is saved in {folder}. Lower optimizer.learning_rate "
                f"(now {recipe.optimizer.learning_rate:g}) or look at the rewards: charter show {folder}"
            )
        if seen.stop is not None and not last:
            raise RunError(
                f"{seen.stop}. The run is saved in {folder}: read it with charter show {folder}, and go on with "
                f"--resume and another monitors.{seen.stop.key}"
            )
        began = time.perf_counter()
    if saved != step and step > 0:  # asked to stop after the step had ended
        _save(run, step)
    await updates.aclose()
    finished = over
    summary = summarise(folder, run.train_s) if finished else None
    if summary is not None and isinstance(run.held_out, HeldOutPairs):
        summary = with_measures(summary, folder)
    if summary is not None:
        run.store.write_summary(summary)
    return Outcome(folder=folder, step=step, finished=finished, summary=summary)


def _updates(run: _Run, start: int) -> AsyncGenerator[Update]:
    recipe, inputs = run.recipe, run.inputs
    encode = run.learner.policy.chat.encode_example
    if isinstance(run.learner, PreferenceLearner):
        assert inputs.pairs is not None
        return preference_model(inputs.pairs, encode, run.learner, recipe.preference, start=start)
    if recipe.method == "sft":
        assert inputs.examples is not None
        return sft(inputs.examples, encode, run.learner, recipe.sft, start=start)
    if run.reference is not None:
        assert inputs.pairs is not None
        return dpo(inputs.pairs, encode, run.reference, run.learner, recipe.dpo, start=start)
    assert inputs.prompts is not None
    assert inputs.rubric is not None
    if recipe.method == "dpo":
        return online_dpo(
            inputs.prompts.train, run.sampler, inputs.rubric, run.learner, recipe.dpo, recipe.sampling, start=start
        )
    if recipe.method == "ppo":
        return ppo(
            inputs.prompts.train, run.sampler, inputs.rubric, run.learner, recipe.ppo, recipe.sampling, start=start
        )
    if recipe.method == "rejection_sft":
        return rejection_sft(
            inputs.prompts.train, run.sampler, inputs.rubric, run.learner, recipe.rejection_sft, recipe.sampling,
            start=start,
        )  # fmt: skip
    return grpo(
        inputs.prompts.train,
        run.sampler,
        inputs.rubric,
        run.learner,
        recipe.grpo,
        recipe.sampling,
        part_weights=inputs.rubric.weights,
        start=start,
    )


def _save(run: _Run, step: int) -> None:
    run.store.sync()
    learned = run.learner.state()
    tensors, scalars = rng_state()
    state = CheckpointState(
        step=step,
        version=run.learner.version,
        tensors={**learned.tensors, **tensors},
        scalars={
            **scalars,
            **learned.scalars,
            "microbatch_tokens": run.learner.microbatch_tokens,
            "train_s": run.train_s,
        },
    )
    run.checkpoints.save(step, run.learner.save_model, state)
    run.checkpoints.prune(run.recipe.run.keep_checkpoints)

"""The runs of a comparison: what each is, and carrying them out in processes of their own. Imports no torch, so that
this process is small beside the one whose memory is measured."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.cli.compare_processes import Processes
from charter.data.procedural import generate_rows, is_procedural
from charter.errors import StoreError
from charter.evaluate.compare_record import compare_record
from charter.recipe import Recipe, dump_recipe
from charter.recipe.compare import CompareRecipe, method_recipe
from charter.run.atomic import write_text
from charter.run.manifest import machine, package_versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run. name: its folder. budget: {"tokens", "seconds"}, one of them None."""

    name: str
    recipe: Recipe
    budget: dict[str, float | None]

    @property
    def hash(self) -> str:
        """Of everything that its result depends on."""
        told = json.dumps([self.recipe.model_dump(), self.budget], sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """For --dry-run --json."""
        return {"name": self.name, "method": self.recipe.method, "seed": self.recipe.seed, "budget": self.budget}

    def line(self) -> str:
        """For --dry-run."""
        limit = ", ".join(f"{amount:g} {kind}" for kind, amount in self.budget.items() if amount is not None)
        size = f"{self.recipe.prompts_per_step} prompts a step"
        return f"{self.name:<24} {self.recipe.model}, {size}, until {limit}"


Part = Callable[[str, Job, Path], None]
"""("train" or "measure", the job, the comparison's folder) → done."""


def plan_of(recipe: CompareRecipe, folder: Path) -> list[Job]:
    """The runs in their order: seed by seed, so that a comparison that is cut short has whole rows."""
    budget = {"tokens": recipe.budget.tokens, "seconds": recipe.budget.seconds}
    shared = shared_prompts(recipe, folder)
    if shared is not None:
        given = {"prompts": str(shared), "size": None, "options": {}}
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=given)})
    return [
        Job(name=f"{name}-seed{seed}", recipe=method_recipe(recipe, name, seed), budget=dict(budget))
        for seed in recipe.seeds
        for name, _ in recipe.methods.present
    ]


def shared_prompts(recipe: CompareRecipe, folder: Path) -> Path | None:
    """The file of a procedural source's rows, drawn with the first seed; None for a source that is read anyway.

    Each seed would draw its own questions, and then no two runs would be judged by the same ones.
    """
    source = recipe.data.prompts
    return folder / f"prompts-seed{recipe.seeds[0]}.jsonl" if source is not None and is_procedural(source) else None


def _draw_prompts(recipe: CompareRecipe, folder: Path) -> None:
    file = shared_prompts(recipe, folder)
    if file is None or file.is_file():
        return
    data = recipe.data
    rows = generate_rows(str(data.prompts), data.options, data.size, recipe.seeds[0])
    write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for _, row in rows))


def carry_out(
    recipe: CompareRecipe,
    jobs: Sequence[Job],
    folder: Path,
    source: str,
    *,
    part: Part | None = None,
    at_once: int = 1,
) -> dict[str, Any]:
    """Run what is not finished yet, `at_once` side by side, and write FOLDER/compare.json.

    source: the recipe's file, for the record. part: trains or measures a job in this process, one after the other; in
    processes of their own when left out.
    Raises: StoreError for a run that was made under another recipe; RunError for one that failed (others under way
    end first, no more are begun), or when asked to stop.
    """
    for name in ("jobs", "measured"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    _draw_prompts(recipe, folder)
    began = time.perf_counter()
    for job in jobs:
        _write_job(job, folder)
    processes = Processes(at_once)

    def run(number: int, job: Job) -> None:
        if (folder / "measured" / f"{job.name}.json").is_file():
            return
        print(f"[{number}/{len(jobs)}] {job.line()}", file=sys.stderr, flush=True)
        for what in ("train", "measure"):
            if part is not None:
                part(what, job, folder)
            else:
                processes.run(what, job.name, folder)
        result = folder / "measured" / f"{job.name}.json"
        found = json.loads(result.read_text("utf-8"))
        write_text(result, json.dumps({**found, "at_once": at_once}, ensure_ascii=False) + "\n")

    with processes.passing_on() if part is None else nullcontext():
        if at_once > 1 and part is None:
            side_by_side(run, jobs, at_once)
        else:
            for number, job in enumerate(jobs, start=1):
                run(number, job)
    runs = [json.loads((folder / "measured" / f"{job.name}.json").read_text("utf-8")) for job in jobs]
    about = {
        "recipe": Path(source).name,
        "model": recipe.model,
        "data": recipe.data.prompts,
        "budget": {kind: amount for kind, amount in jobs[0].budget.items() if amount is not None},
        "sampling": recipe.sampling.model_dump(include={"group_size", "max_new_tokens", "temperature"}),
        "temperature": runs[0]["temperature"],
        "machine": machine(),
        "packages": {name: version for name, version in package_versions().items() if version},
        "last_call_seconds": round(time.perf_counter() - began, 1),
    }
    record = compare_record(runs, score=recipe.score, about=about)
    write_text(folder / "compare.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return record


def side_by_side(run: Callable[[int, Job], None], jobs: Sequence[Job], at_once: int) -> None:
    """All jobs in their order, `at_once` under way; the first failure lets no more begin."""
    failed = threading.Event()

    def guarded(number: int, job: Job) -> None:
        if failed.is_set():
            return
        try:
            run(number, job)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(at_once) as pool:
        under_way = [pool.submit(guarded, number, job) for number, job in enumerate(jobs, start=1)]
    for one in under_way:
        one.result()


def _write_job(job: Job, folder: Path) -> None:
    """Say what the child is to do, unless another recipe has said so before."""
    file = folder / "jobs" / f"{job.name}.json"
    if file.is_file():
        before = json.loads(file.read_text("utf-8"))
        if before["hash"] != job.hash:
            raise StoreError(
                f"{folder / job.name} was begun under other keys or another budget than this recipe has. Put the "
                f"recipe back, choose another folder (--run-dir), or delete {folder / job.name}, {file} and what "
                f"{folder / 'measured'} holds of {job.name}"
            )
        return
    write_text(folder / "jobs" / f"{job.name}.toml", dump_recipe(job.recipe))
    told = {"name": job.name, "budget": job.budget, "hash": job.hash}
    write_text(file, json.dumps(told, indent=1) + "\n")

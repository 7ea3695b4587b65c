"""Recipes other than a training run's, read with the same care: constitutional ones, pipelines and comparisons."""

# pyright: strict

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from charter.recipe.cai import CaiRecipe
from charter.recipe.cai_checks import cai_conflicts
from charter.recipe.compare import CompareRecipe, compare_conflicts
from charter.recipe.loading import load_recipe, load_root, read_toml
from charter.recipe.overrides import Overrides, parse_overrides
from charter.recipe.pipeline import PipelineRecipe, pipeline_conflicts
from charter.recipe.tables import Recipe

ROOTS: dict[str, type[BaseModel]] = {
    "train": Recipe,
    "cai": CaiRecipe,
    "pipeline": PipelineRecipe,
    "compare": CompareRecipe,
}
"""Every kind of recipe, for the reference and the schema."""


def load_cai_recipe(path: str | Path, overrides: Overrides = ()) -> CaiRecipe:
    """Read a constitutional recipe (method = "cai"); as `load_root`."""
    return load_root(path, overrides, CaiRecipe, conflicts=cai_conflicts)


def load_pipeline(path: str | Path, overrides: Overrides = ()) -> PipelineRecipe:
    """Read a pipeline (method = "pipeline"); as `load_root`."""
    return load_root(path, overrides, PipelineRecipe, conflicts=pipeline_conflicts)


def load_compare(path: str | Path, overrides: Overrides = ()) -> CompareRecipe:
    """Read a comparison (method = "compare"); as `load_root`."""
    return load_root(path, overrides, CompareRecipe, conflicts=compare_conflicts)


def load_any(path: str | Path, overrides: Overrides = ()) -> Recipe | CaiRecipe | PipelineRecipe | CompareRecipe:
    """Read a recipe of the kind that its method says; a training recipe where it says none."""
    load = {"cai": load_cai_recipe, "pipeline": load_pipeline, "compare": load_compare}
    return load.get(_method(path, overrides), load_recipe)(path, overrides)


def load_training(path: str | Path, overrides: Overrides = ()) -> Recipe | PipelineRecipe:
    """Read what `charter train` takes: a training recipe, or a pipeline of such."""
    load = load_pipeline if _method(path, overrides) == "pipeline" else load_recipe
    return load(path, overrides)


def _method(path: str | Path, overrides: Overrides) -> str:
    """What a file says of its method, or an override."""
    method = read_toml(Path(path))[1].get("method")
    for key, value in parse_overrides(overrides)[0]:
        method = value if key == ("method",) else method
    return str(method)

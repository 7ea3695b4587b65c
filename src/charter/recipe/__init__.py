"""A recipe: everything that decides a run, in one TOML file.

    recipe = load_recipe("recipes/quickstart.toml", ["run.steps=5"])

`tables` holds the keys and their meanings, `loading` reads and refuses, `checks` judges numbers that make no sense
together, `writing` and `comparing` are what a run folder needs, `reference` documents. Imports no torch.
"""

# pyright: strict

from __future__ import annotations

from charter.recipe.checks import Conflict, conflicts
from charter.recipe.comparing import differences, matters_for_resume
from charter.recipe.keys import RecipeKey, recipe_keys
from charter.recipe.loading import check_recipe, load_recipe, load_root
from charter.recipe.pipeline import PipelineRecipe, PipelineStage
from charter.recipe.reference import json_schema, recipe_reference
from charter.recipe.roots import load_any, load_cai_recipe, load_compare, load_pipeline
from charter.recipe.stages import StageTable
from charter.recipe.tables import (
    AdvantageName,
    AggregationName,
    DataTable,
    DpoTable,
    EvalTable,
    GrpoTable,
    LearnerTable,
    LoraTable,
    LossName,
    Method,
    OptimizerTable,
    PpoTable,
    PreferenceTable,
    Recipe,
    RejectionTable,
    RewardTable,
    RunTable,
    SamplingTable,
    SftTable,
    Table,
)
from charter.recipe.writing import dump_recipe, recipe_hash

__all__ = [
    "AdvantageName",
    "AggregationName",
    "Conflict",
    "DataTable",
    "DpoTable",
    "EvalTable",
    "GrpoTable",
    "LearnerTable",
    "LoraTable",
    "LossName",
    "Method",
    "OptimizerTable",
    "PipelineRecipe",
    "PipelineStage",
    "PpoTable",
    "PreferenceTable",
    "Recipe",
    "RecipeKey",
    "RejectionTable",
    "RewardTable",
    "RunTable",
    "SamplingTable",
    "SftTable",
    "StageTable",
    "Table",
    "check_recipe",
    "conflicts",
    "differences",
    "dump_recipe",
    "json_schema",
    "load_any",
    "load_cai_recipe",
    "load_compare",
    "load_pipeline",
    "load_recipe",
    "load_root",
    "matters_for_resume",
    "recipe_hash",
    "recipe_keys",
    "recipe_reference",
]

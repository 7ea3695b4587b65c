"""The table of the monitors: what is watched while a policy trains, and where the run stops."""

# pyright: strict

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from charter.recipe.fields import FiniteFloat, Fraction, PositiveInt, Table, described

Factor = Annotated[float, Field(gt=1, allow_inf_nan=False)]


class MonitorsTable(Table):
    """[monitors]: limits at which a run that samples stops, saved and resumable. Left out, a limit is none."""

    file_keys = ("refusal_prompts",)
    ngram: PositiveInt = described("Words of a phrase that counts as boilerplate.", 4, unit="words")
    patience: PositiveInt = described(
        "Steps in a row beyond a limit before the run stops; what evaluations measure counts at once.", 3, unit="steps"
    )
    max_boilerplate_rise: Fraction | None = described(
        "Most by which the share of completions with one of the step's commonest phrases may rise above step 1's.", None
    )
    min_distinct_2: Fraction | None = described("Least share of different word pairs in a step's completions.", None)
    max_length_drift: Factor | None = described(
        "Largest factor by which the mean length may differ from the first 5 steps', up or down.", None
    )
    max_refusal_rate: Fraction | None = described(
        "Largest share of safe prompts that may be refused; measured at evaluations where it is set.", None
    )
    refusal_prompts: str = described(
        "Safe prompts for it: a .jsonl or .txt path; the safe ones of the shipped twins when left out.", ""
    )
    refusal_count: PositiveInt = described("Of these, how many.", 32, unit="prompts")
    reward: str | None = described("A reward that is not trained against, measured at evaluations.", None)
    reward_options: dict[str, Any] = Field(default_factory=dict, description="Options of that reward, by name.")
    max_gap: FiniteFloat | None = described(
        "Most by which the trained reward may have risen beyond that one, in standard deviations.",
        None,
        unit="std",
    )

"""The tables of a recipe: every key with its type, default, meaning and unit.

`charter explain`, the JSON schema and docs/recipe.md are generated from what is written here.
"""

# pyright: strict

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_serializer

from charter.recipe.fields import (
    Decays,
    FiniteFloat,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    Table,
    described,
    pair_of,
)
from charter.recipe.monitors import MonitorsTable

Method = Literal["grpo", "sft", "dpo", "ppo", "rejection_sft", "preference"]
AdvantageName = Literal["center", "standardize", "leave_one_out", "batch_std", "max_rl"]
LossName = Literal["reinforce", "clip", "gspo", "cispo", "sapo", "dppo_tv"]
AggregationName = Literal["token", "sequence", "constant", "prompt"]


class DataTable(Table):
    """[data]: where prompts (GRPO), examples (SFT) or pairs (DPO) come from."""

    file_keys = ("prompts", "examples", "pairs")
    prompts: str | None = described(
        "Prompts to sample from: a .jsonl or .parquet path, arithmetic:addition, programs:tiny, reasoning_gym:TASK, "
        "hf:NAME, or a data asset (humaneval, do-not-answer, strongreject).",
        None,
    )
    examples: str | None = described('Conversations to imitate (method = "sft"): .jsonl, .parquet or hf:NAME.', None)
    pairs: str | None = described(
        "Pairs of answers (dpo, preference), rows of prompt, chosen, rejected and perhaps p: .jsonl, .parquet, hf:NAME "
        "or the data asset harm-ratings.",
        None,
    )
    template: str | None = described(
        "The question to ask, with {column} placeholders filled from the row ({metadata.name} too); a user turn.",
        None,
    )
    system: str | None = described("System message put before each conversation.", None)
    size: PositiveInt | None = described(
        "Rows to read, or to generate from a procedural source; all rows when left out (procedural: 1000).",
        None,
        unit="rows",
    )
    held_out: NonNegativeInt | None = described(
        "Prompts kept for evaluation, never trained on; chosen by a hash of their content. Left out: a tenth, at most "
        "64, and none of fewer than 100.",
        None,
        unit="prompts",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of a procedural or hub source, passed on by name."
    )


class SamplingTable(Table):
    """[sampling]: how completions are drawn."""

    group_size: PositiveInt = described("Completions per prompt (G).", 8, unit="completions")
    max_new_tokens: PositiveInt = described("Longest completion.", 256, unit="tokens")
    temperature: NonNegativeFloat = described("Softmax temperature; the learner uses the same one.", 1.0)
    top_p: Annotated[float, Field(gt=0, le=1)] = described("Nucleus sampling; 1 keeps the whole distribution.", 1.0)
    top_k: NonNegativeInt = described("Keep the k likeliest tokens; 0 keeps all.", 0, unit="tokens")
    precision: Literal["model", "int8", "fp8"] = described(
        "Of the products that decode in training: the policy's own, or a copy of its weights in 8 bits, made after "
        "every update (int8: CPU; fp8: CUDA). Prompts, evaluations and learning stay as they are.",
        "model",
    )
    allow_truncated_sampling: bool = described(
        "Allow top_p < 1 or top_k > 0 in training, though the learner's probabilities then differ from the sampler's.",
        False,
    )


class WeightTable(Table):
    """weight = {…}: a weight that changes over the run, from `start` to `end`; it depends on the step alone."""

    start: FiniteFloat = described("Weight up to the step `from`.")
    end: FiniteFloat = described("Weight from the step `from` + `steps` on, and in every evaluation.")
    steps: PositiveInt = described("Length of the course.", unit="steps")
    shape: Literal["linear", "cosine"] = described("A line, or half a cosine.", "linear")
    first: PositiveInt = Field(1, alias="from", description="Step at which the course begins, counted from 1.")

    @model_serializer
    def as_written(self) -> dict[str, Any]:
        """The table as it stands in a recipe, where the first step is called `from`."""
        values = {"start": self.start, "end": self.end, "steps": self.steps, "shape": self.shape}
        return {**values, "from": self.first}


def _weight_form(value: object) -> str:
    return "table" if isinstance(value, dict | WeightTable) else "number"


Weight = Annotated[
    Annotated[FiniteFloat, Tag("number")] | Annotated[WeightTable, Tag("table")], Discriminator(_weight_form)
]
Cap = Annotated[tuple[float, float], BeforeValidator(pair_of)]


class RewardTable(BaseModel):
    """[[rewards]]: one rule. Keys beyond these are options of the named reward and are checked against it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str = described("A built-in reward, path/to/file.py:function or package.module:function.")
    weight: Weight = described("Factor on this reward in the sum, or its course {start, end, steps} over the run.", 1.0)
    gate: str | None = described("Another reward's name: where that one's value is too low, this one counts 0.", None)
    gate_at_least: FiniteFloat | None = described(
        "Value at which the gate opens; the gate's maximum when left out, 1 where it has none.", None
    )
    cap: Cap | None = described("[lowest, highest] value that counts, before the weight; ±inf for no bound.", None)
    normalize: Literal["none", "group"] = described(
        "group: subtract the group's mean and divide by its standard deviation, before the weight; in training only.",
        "none",
    )
    only: dict[str, Any] = Field(
        default_factory=dict,
        description="{column = value}: only prompts with that value in that column are asked; on others it abstains.",
    )
    timeout_s: PositiveFloat = described("Longest time one completion's score may take.", 10.0, unit="s")

    @property
    def options(self) -> dict[str, Any]:
        """The keys meant for the reward itself."""
        return dict(self.model_extra or {})


class GrpoTable(Table):
    """[grpo]: the objective. Formulas: `charter explain`, docs/grpo.md."""

    prompts_per_step: PositiveInt = described("Groups per step.", 8, unit="prompts")
    advantage: AdvantageName = described("Estimator that turns a group's rewards into advantages.", "center")
    combine: Literal["sum", "per_reward"] = described(
        "Several rewards: weigh and add, then estimate once; or standardise each inside its group first (GDPO).", "sum"
    )
    loss: LossName = described("Per-token policy loss.", "clip")
    clip_low: FiniteFloat | None = described("ε_low of the clip range; the loss's own default when left out.", None)
    clip_high: FiniteFloat | None = described("ε_high of the clip range; the loss's own default when left out.", None)
    dual_clip: FiniteFloat | None = described('Bound c on the loss of negative advantages (loss = "clip").', None)
    aggregation: AggregationName = described("How per-token losses become one number.", "token")
    kl_coef: NonNegativeFloat = described(
        "Weight of the KL to the starting model; 0 keeps no reference in memory.", 0.0
    )
    kl_estimator: Literal["k1", "k2", "k3"] | None = described(
        "Estimator of the KL; k2 in the loss and k1 in the reward when left out.", None
    )
    kl_in: Literal["loss", "reward"] = described("Where the KL acts.", "loss")
    updates_per_step: PositiveInt = described("Optimizer updates on each step's completions (μ).", 1, unit="updates")
    truncated: Literal["keep", "mask", "penalize"] = described(
        "Completions that hit max_new_tokens: learn from them, leave them out of the loss, or lower their reward.",
        "keep",
    )
    soft_window: NonNegativeInt = described(
        'Last tokens before the limit over which truncated = "penalize" grows from 0 to -1.', 0, unit="tokens"
    )
    dynamic_sampling: bool = described(
        "Refill the step with fresh prompts until prompts_per_step groups have signal.", False
    )
    max_refill: PositiveInt = described("Most rounds of refilling.", 3, unit="rounds")
    mismatch: Literal["none", "truncate", "mask"] = described(
        "Correct for a sampler that is not the learner's own forward: w = exp(lp_old - lp_sampler).", "none"
    )
    mismatch_cap: Annotated[float, Field(gt=1)] = described("C: w is cut at C, or dropped outside [1/C, C].", 2.0)
    max_error_rate: Fraction = described(
        "Share of a step's completions whose reward may fail before the run stops.", 0.1
    )


class SftTable(Table):
    """[sft]: imitation of the assistant's turns."""

    examples_per_step: PositiveInt = described("Conversations per step.", 16, unit="examples")
    aggregation: Literal["token", "sequence"] = described("How per-token losses become one number.", "token")
    max_tokens: PositiveInt = described("Conversations longer than this are refused, by name.", 2048, unit="tokens")


class PpoTable(Table):
    """[ppo]: a policy and a critic. Formulas: `charter explain`, docs/ppo.md."""

    prompts_per_step: PositiveInt = described("Prompts per step; each gets sampling.group_size completions.", 8)
    critic: Literal["head", "separate"] = described(
        "head: a scalar head on the policy's own backbone. separate: a second model with its own weights.", "separate"
    )
    critic_learning_rate: PositiveFloat | None = described(
        "Peak rate of the critic's weights, on the policy's schedule; optimizer.learning_rate when left out.", None
    )
    kl_coef: NonNegativeFloat = described(
        "Weight of the per-token KL to the starting model (k1) in the reward; 0 keeps no reference in memory.", 0.05
    )
    gamma: Fraction = described("Discount per token.", 1.0)
    lam: Fraction = described("λ of the generalised advantage: 0 trusts the critic, 1 the rewards.", 0.95)
    whiten: bool = described("Shift and scale the step's advantages to mean 0 and standard deviation 1.", True)
    clip: PositiveFloat = described("ε of the policy's clip range.", 0.2)
    value_clip: NonNegativeFloat = described("Farthest that a value may move, in the reward's unit; 0: no bound.", 0.2)
    value_coef: PositiveFloat = described("Weight of the value loss beside the policy loss.", 0.5)
    epochs: PositiveInt = described("Passes over each step's completions.", 2)
    minibatches: PositiveInt = described("Optimizer updates per epoch.", 2, unit="updates")
    max_error_rate: Fraction = described(
        "Share of a step's completions whose reward may fail before the run stops.", 0.1
    )


class DpoTable(Table):
    """[dpo]: which of two answers is the better one. Formulas: `charter explain`, docs/dpo.md."""

    pairs_per_step: PositiveInt = described(
        "Pairs per step; online: prompts per step, a pair of each.", 8, unit="pairs"
    )
    kind: Literal["dpo", "cdpo", "ipo", "length_normalized"] = described(
        "Pairwise loss; cdpo is dpo with label_smoothing above 0.", "dpo"
    )
    beta: PositiveFloat = described("Strength of the tie to the starting model, per nat.", 0.1)
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5, allow_inf_nan=False)] = described(
        "Share of the labels believed to be flipped (cDPO).", 0.0
    )
    max_tokens: PositiveInt = described(
        "Pairs of which prompt and longer answer have more than this are refused, by name.", 2048, unit="tokens"
    )
    online: bool = described(
        "Sample group_size completions per prompt from the current policy, and pair the best with the worst by the "
        "rewards; where all are equal there is no pair.",
        False,
    )
    online_label: Literal["hard", "bradley_terry"] = described(
        "p of a sampled pair: 1, or the Bradley-Terry probability 1 / (1 + exp(r_worst - r_best)).", "hard"
    )
    max_error_rate: Fraction = described(
        "Share of a step's completions whose reward may fail before the run stops.", 0.1
    )


class RejectionTable(Table):
    """[rejection_sft]: imitate the best of what the policy samples. Formulas: `charter explain`, docs/compare.md."""

    prompts_per_step: PositiveInt = described("Prompts per step; each gets sampling.group_size completions.", 8)
    keep: Literal["best", "threshold"] = described(
        "best: the highest rewarded completions of a prompt that are above its mean. threshold: those with a reward of "
        "at least `threshold`, the highest first.",
        "best",
    )
    threshold: FiniteFloat = described('Least reward that is imitated (keep = "threshold").', 1.0)
    per_prompt: PositiveInt = described("Most completions kept of a prompt; equal ones count once.", 1)
    updates_per_step: PositiveInt = described("Optimizer updates on what a step kept.", 1, unit="updates")
    aggregation: Literal["token", "sequence"] = described("How per-token losses become one number.", "token")
    max_error_rate: Fraction = described(
        "Share of a step's completions whose reward may fail before the run stops.", 0.1
    )


class PreferenceTable(Table):
    """[preference]: a preference model, a scalar head on the model's backbone. Formulas: docs/preference_model.md."""

    pairs_per_step: PositiveInt = described("Pairs per step.", 32, unit="pairs")
    labels: Literal["soft", "hard", "clamped"] = described(
        "p of each pair as it is given, rounded to 0 or 1 (1/2 stays), or kept inside clamp.", "soft"
    )
    clamp: Range = described("Lowest and highest p with labels = clamped.", (0.4, 0.6))
    trainable_layers: NonNegativeInt | None = described(
        "Last layers that learn with the head; 0: none, their states are worked out once. Left out: the whole model.",
        None,
    )
    head_learning_rate: PositiveFloat = described(
        "Peak rate of the head, on the optimizer's schedule; the backbone's is optimizer.learning_rate.", 3e-3
    )
    max_tokens: PositiveInt = described(
        "Pairs longer than this are refused, by name; later, so are longer conversations.", 2048, unit="tokens"
    )


class OptimizerTable(Table):
    """[optimizer]: AdamW and its schedule."""

    learning_rate: PositiveFloat = described("Peak learning rate.", 1e-6)
    schedule: Literal["constant", "cosine", "linear"] = described("Course of the rate after warm-up.", "constant")
    warmup_steps: NonNegativeInt = described("Steps over which the rate rises from 0.", 0, unit="steps")
    final_fraction: Fraction = described("Rate at the last step as a share of the peak (cosine, linear).", 0.0)
    betas: Decays = described("AdamW's decay of the first and second moment.", (0.9, 0.999))
    eps: PositiveFloat = described("AdamW's constant under the square root's sum.", 1e-8)
    weight_decay: NonNegativeFloat = described("Decoupled weight decay, on matrices only.", 0.0)
    max_grad_norm: PositiveFloat = described("Gradients are scaled down to this norm.", 1.0)


class LearnerTable(Table):
    """[learner]: where and how the weights are held."""

    device: str = described("auto, cpu, cuda or cuda:N.", "auto")
    dtype: Literal["auto", "float32", "bfloat16"] = described(
        "Arithmetic of the forward; auto is bfloat16 on CUDA, float32 on CPU. Weights stay float32.", "auto"
    )
    activation_checkpointing: bool = described(
        "Recompute activations in the backward: less memory, about 1/3 more time.", False
    )
    max_microbatch_tokens: PositiveInt | None = described(
        "Cap on the tokens whose activations are held together; derived from the device's memory if left out. On a "
        "CPU groups share a forward up to 1,024 tokens, and two forwards run at once where the cap has room for both. "
        "Never changes the result.",
        None,
        unit="tokens",
    )


class LoraTable(Table):
    """[lora]: train low-rank adapters instead of the weights (needs the extra `lora`)."""

    rank: PositiveInt = described("Rank of each adapter.", 16)
    alpha: PositiveFloat = described("Scale of the adapters: alpha / rank.", 32.0)
    targets: list[str] | Literal["all-linear"] = described("Modules that get one.", "all-linear")


class RunTable(Table):
    """[run]: how long, and what is kept."""

    name: str | None = described("Folder under runs/; the recipe's file name when left out.", None)
    steps: PositiveInt = described("Optimizer steps (GRPO: rounds of sampling).", 100, unit="steps")
    save_every: PositiveInt = described("Steps between checkpoints; the last step is always saved.", 10, unit="steps")
    eval_every: NonNegativeInt = described(
        "Steps between evaluations on held-out prompts; 0 only before and after.", 0, unit="steps"
    )
    keep_checkpoints: PositiveInt = described("Newest checkpoints kept.", 2, unit="checkpoints")


class EvalTable(Table):
    """[eval]: held-out evaluation."""

    prompts: PositiveInt | None = described("Held-out prompts used; all when left out.", None, unit="prompts")
    samples: PositiveInt = described("Completions per prompt at the given temperature.", 1, unit="completions")
    temperatures: list[NonNegativeFloat] = described("Each is evaluated; 0 is greedy, with one completion.", [0.0])
    threshold: FiniteFloat = described("A completion is right when its reward is at least this.", 1.0)
    k: list[PositiveInt] = described("The k of pass@k.", [1])


class Recipe(Table):
    """A whole recipe."""

    model_keys = ("model",)
    method: Method = described("How to learn.")
    model: str = described("An asset name, a Hugging Face id or a folder.")
    seed: NonNegativeInt = described("Fixes data order and every draw.", 0)
    data: DataTable = Field(default_factory=DataTable)
    sampling: SamplingTable = Field(default_factory=SamplingTable)
    rewards: list[RewardTable] = Field(default_factory=list[RewardTable])
    grpo: GrpoTable = Field(default_factory=GrpoTable)
    sft: SftTable = Field(default_factory=SftTable)
    dpo: DpoTable = Field(default_factory=DpoTable)
    ppo: PpoTable = Field(default_factory=PpoTable)
    rejection_sft: RejectionTable = Field(default_factory=RejectionTable)
    preference: PreferenceTable = Field(default_factory=PreferenceTable)
    optimizer: OptimizerTable = Field(default_factory=OptimizerTable)
    learner: LearnerTable = Field(default_factory=LearnerTable)
    lora: LoraTable | None = Field(
        default=None, description="Train low-rank adapters; left out, all weights are trained."
    )
    run: RunTable = Field(default_factory=RunTable)
    eval: EvalTable = Field(default_factory=EvalTable)
    monitors: MonitorsTable = Field(default_factory=MonitorsTable)

    @property
    def samples(self) -> bool:
        """Whether its steps draw completions and score them."""
        return self.method in ("grpo", "ppo", "rejection_sft") or (self.method == "dpo" and self.dpo.online)

    @property
    def prompts_per_step(self) -> int:
        """Prompts that each step samples from, for a method that does."""
        asked = {"dpo": self.dpo.pairs_per_step, "ppo": self.ppo.prompts_per_step}
        asked["rejection_sft"] = self.rejection_sft.prompts_per_step
        return asked.get(self.method, self.grpo.prompts_per_step)

    @property
    def needs_reference(self) -> bool:
        """Whether the starting model is asked in every step."""
        if self.method in ("dpo", "rejection_sft", "preference"):
            return self.method == "dpo" and self.dpo.online
        return (self.ppo if self.method == "ppo" else self.grpo).kl_coef > 0 and self.samples

    @property
    def max_error_rate(self) -> float:
        """Share of completions whose reward may fail, as the method's own table says."""
        tables = {"dpo": self.dpo, "ppo": self.ppo, "rejection_sft": self.rejection_sft}
        return tables.get(self.method, self.grpo).max_error_rate

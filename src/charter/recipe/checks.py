"""Numbers that are each allowed and make no sense together.

Each check says what is wrong in a sentence and what to write instead. Needs neither torch nor a model.
"""

# pyright: strict

from __future__ import annotations

import re
from collections.abc import Iterator

from charter.recipe.conflict import Conflict
from charter.recipe.monitor_checks import monitor_conflicts
from charter.recipe.rewards import plain_sum, reward_conflicts
from charter.recipe.tables import Recipe

__all__ = ["Conflict", "conflicts"]

_CLIPPED = {
    ("clip", "clip_low"),
    ("clip", "clip_high"),
    ("gspo", "clip_low"),
    ("gspo", "clip_high"),
    ("cispo", "clip_high"),
}
"""Which losses read which bound of the clip range."""


def conflicts(recipe: Recipe) -> tuple[Conflict, ...]:
    """Everything in the recipe that cannot be meant, in the order of the tables."""
    found = [*_every_method(recipe), *reward_conflicts(recipe), *monitor_conflicts(recipe)]
    if recipe.method == "dpo":
        found += _dpo(recipe)
    elif recipe.method == "ppo":
        found += _ppo(recipe)
    elif recipe.method == "preference":
        found += _preference(recipe)
    elif recipe.method == "rejection_sft":
        found += [*_sampling_needs(recipe), *_sampling(recipe)]
    elif recipe.method == "grpo":
        found += [
            *_sampling_needs(recipe),
            *_sampling(recipe),
            *_clip_range(recipe),
            *_kl(recipe),
            *_length(recipe),
            *_advantage(recipe),
        ]
    elif recipe.data.examples is None:
        found.append(
            Conflict(
                key="data.examples",
                found='method = "sft" has no examples to imitate',
                fix='Set data.examples to a .jsonl or .parquet path or "hf:NAME"',
                others=("method",),
            )
        )
    return tuple(found)


def _advantage(recipe: Recipe) -> Iterator[Conflict]:
    grpo = recipe.grpo
    adds = [
        key
        for key, acts in (
            ("grpo.kl_in", grpo.kl_coef > 0 and grpo.kl_in == "reward"),
            ("grpo.truncated", grpo.truncated == "penalize"),
        )
        if acts
    ]
    for key in adds if grpo.combine == "per_reward" else ():
        yield Conflict(
            key=key,
            found='combine = "per_reward" standardises every term, so a penalty on the reward would lose its size',
            fix='Use combine = "sum", or put the KL in the loss and keep or mask truncated completions',
            others=("grpo.combine",),
        )
    binary = plain_sum(recipe) and not adds
    if grpo.advantage == "max_rl" and not binary:
        yield Conflict(
            key="grpo.advantage",
            found="max_rl is defined for rewards of 0 or 1, and these are weighed, added or penalised",
            fix='Use one reward of weight 1 without penalties, or another estimator (advantage = "center")',
            others=("rewards",),
        )


def _every_method(recipe: Recipe) -> Iterator[Conflict]:
    if not recipe.model.strip():
        yield Conflict(
            key="model",
            found="the model's name is empty",
            fix='Name an asset ("smollm2-135m"), a folder or a Hugging Face id',
        )
    if recipe.optimizer.warmup_steps > recipe.run.steps:
        yield Conflict(
            key="optimizer.warmup_steps",
            found=f"warm-up takes {recipe.optimizer.warmup_steps} steps and the run has {recipe.run.steps}",
            fix="Make it at most run.steps",
            others=("run.steps",),
        )
    if (largest := max(recipe.eval.k, default=1)) > recipe.eval.samples:
        yield Conflict(
            key="eval.k",
            found=f"pass@{largest} needs {largest} completions per prompt and eval.samples is {recipe.eval.samples}",
            fix=f"Set eval.samples to {largest} or more, or ask for a smaller k",
            others=("eval.samples",),
        )
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", recipe.learner.device):
        yield Conflict(
            key="learner.device",
            found=f"{recipe.learner.device!r} is no device that Charter knows",
            fix='Write "auto", "cpu", "cuda" or "cuda:N"',
        )


def _ppo(recipe: Recipe) -> Iterator[Conflict]:
    yield from _sampling_needs(recipe)
    yield from _sampling(recipe)
    ppo, completions = recipe.ppo, recipe.ppo.prompts_per_step * recipe.sampling.group_size
    if ppo.minibatches > completions:
        yield Conflict(
            key="ppo.minibatches",
            found=f"{ppo.minibatches} minibatches cannot be made of {completions} completions per step",
            fix="Ask for fewer, or for more completions (ppo.prompts_per_step, sampling.group_size)",
            others=("ppo.prompts_per_step", "sampling.group_size"),
        )
    if recipe.lora is not None:
        yield Conflict(
            key="lora.rank",
            found="PPO trains all weights of the policy and its critic, and [lora] freezes the policy's",
            fix='Leave [lora] out, or use method = "grpo"',
            others=("method",),
        )


def _dpo(recipe: Recipe) -> Iterator[Conflict]:
    if recipe.dpo.kind == "cdpo" and recipe.dpo.label_smoothing == 0:
        yield Conflict(
            key="dpo.kind",
            found='dpo.kind = "cdpo" with no label believed to be flipped is plain DPO',
            fix='Set the share of flipped labels, 0.1 for instance, or dpo.kind = "dpo"',
            others=("dpo.label_smoothing",),
        )
    if recipe.dpo.online:
        yield from _sampling_needs(recipe)
        yield from _sampling(recipe)
        if recipe.data.pairs is not None:
            yield Conflict(
                key="data.pairs",
                found="dpo.online = true makes its pairs from the policy's own completions, so these would not be read",
                fix="Leave data.pairs out, or set dpo.online to false",
                others=("dpo.online",),
            )
        return
    if recipe.data.pairs is None:
        yield Conflict(
            key="data.pairs",
            found='method = "dpo" has no pairs to learn from',
            fix='Set data.pairs to a .jsonl or .parquet path or "hf:NAME", or sample them with dpo.online = true',
            others=("method",),
        )
    if recipe.dpo.online_label != "hard":
        yield Conflict(
            key="dpo.online_label",
            found=f"{recipe.dpo.online_label!r} labels pairs that were sampled, and dpo.online is false",
            fix="Leave it out, or set dpo.online to true; pairs that were read have their own p",
            others=("dpo.online",),
        )


def _preference(recipe: Recipe) -> Iterator[Conflict]:
    table = recipe.preference
    if recipe.data.pairs is None:
        yield Conflict(
            key="data.pairs",
            found='method = "preference" has no pairs to learn from',
            fix='Set data.pairs to a .jsonl or .parquet path, "hf:NAME" or "harm-ratings"',
            others=("method",),
        )
    if not table.clamp[0] < table.clamp[1]:
        yield Conflict(
            key="preference.clamp",
            found=f"the range from {table.clamp[0]:g} to {table.clamp[1]:g} leaves no room for a label",
            fix="Write the lowest p first, then the highest",
        )
    if recipe.lora is not None:
        yield Conflict(
            key="lora.rank",
            found="a preference model trains layers of the model itself, and [lora] freezes them",
            fix="Leave [lora] out; preference.trainable_layers says how much learns",
            others=("method",),
        )


def _sampling_needs(recipe: Recipe) -> Iterator[Conflict]:
    name = "dpo.online = true" if recipe.method == "dpo" else f'method = "{recipe.method}"'
    if recipe.data.prompts is None:
        yield Conflict(
            key="data.prompts",
            found=f"{name} has no prompts to sample from",
            fix='Set data.prompts to a file, "arithmetic:addition", "reasoning_gym:TASK" or "hf:NAME"',
            others=("method",),
        )
    if not recipe.rewards:
        yield Conflict(
            key="rewards",
            found=f"{name} has no rewards, so nothing would be learned",
            fix='Add a table [[rewards]] with a name, for instance name = "math"',
            others=("method",),
        )


def _sampling(recipe: Recipe) -> Iterator[Conflict]:
    sampling, grpo = recipe.sampling, recipe.grpo
    alone = recipe.method == "ppo" or (recipe.method == "rejection_sft" and recipe.rejection_sft.keep == "threshold")
    if sampling.group_size == 1 and not alone:
        yield Conflict(
            key="sampling.group_size",
            found="a pair is the best and the worst completion of one prompt, and a group of 1 has only one"
            if recipe.method == "dpo"
            else 'keep = "best" keeps what is above its prompt\'s mean, and in a group of 1 nothing is'
            if recipe.method == "rejection_sft"
            else f"the estimator {grpo.advantage!r} compares the completions of one prompt, and a group of 1 has none "
            "to compare with: every advantage would be 0",
            fix="Use a group_size of 2 or more (8 is usual)",
        )
    if sampling.temperature == 0:
        yield Conflict(
            key="sampling.temperature",
            found="temperature 0 draws the same completion every time, so a group has no spread to learn from",
            fix="Use a temperature above 0 (1.0 is usual); eval.temperatures = [0.0] evaluates greedily",
        )
    for key, value, whole in (("top_p", sampling.top_p, 1), ("top_k", sampling.top_k, 0)):
        if value != whole and not sampling.allow_truncated_sampling:
            yield Conflict(
                key=f"sampling.{key}",
                found=f"{key} = {value} cuts the distribution, so the sampler's probabilities are not the learner's",
                fix=f"Use {key} = {whole}, or accept the mismatch with sampling.allow_truncated_sampling = true",
                others=("sampling.allow_truncated_sampling",),
            )
    yield from _precision(recipe)


def _precision(recipe: Recipe) -> Iterator[Conflict]:
    """Decoding in 8 bits draws from another distribution than the one that learns."""
    precision = recipe.sampling.precision
    if precision == "model":
        return
    found, fix = f'precision = "{precision}" draws from other probabilities than the learner\'s', 'precision = "model"'
    if recipe.method == "ppo":
        yield Conflict(
            key="sampling.precision", found=f"{found}, and PPO has no weights that correct for it", fix=f"Use {fix}"
        )
    if recipe.method == "grpo" and recipe.grpo.mismatch == "none":
        yield Conflict(
            key="sampling.precision",
            found=f'{found}, and mismatch = "none" does not correct for it',
            fix=f'Set grpo.mismatch = "truncate" (w = exp(lp_old - lp_sampler), cut at mismatch_cap), or use {fix}',
            others=("grpo.mismatch",),
        )
    if recipe.method == "grpo" and recipe.grpo.kl_coef > 0 and recipe.grpo.kl_in == "reward":
        yield Conflict(
            key="sampling.precision",
            found=f'{found}, and kl_in = "reward" measures the KL by what the sampler said',
            fix=f'Use grpo.kl_in = "loss", or {fix}',
            others=("grpo.kl_in",),
        )
    if recipe.lora is not None:
        yield Conflict(
            key="sampling.precision",
            found="the copy in 8 bits is of the model's own weights, and [lora] adds others beside them",
            fix=f"Use {fix}, or leave [lora] out",
            others=("lora",),
        )


def _clip_range(recipe: Recipe) -> Iterator[Conflict]:
    grpo = recipe.grpo
    for key, value in (("clip_low", grpo.clip_low), ("clip_high", grpo.clip_high)):
        if value is None:
            continue
        if (grpo.loss, key) not in _CLIPPED:
            yield Conflict(
                key=f"grpo.{key}",
                found=f"the loss {grpo.loss!r} has no such bound, so {key} = {value:g} has no effect",
                fix=f"Leave {key} out",
                others=("grpo.loss",),
            )
        elif grpo.loss == "cispo" and key == "clip_high" and value < 0:
            yield Conflict(
                key="grpo.clip_high",
                found=f"cispo's cap is 1 + clip_high = {1 + value:g}, and a cap below 1 scales all on-policy gradients",
                fix="Use a clip_high above 0 (4 is the default)",
                others=("grpo.loss",),
            )
        elif value <= 0:
            yield Conflict(
                key=f"grpo.{key}",
                found=f"{key} = {value:g} leaves no room around a ratio of 1",
                fix="Use a number above 0, or leave it out for the loss's own default",
            )
        elif grpo.loss == "gspo" and value >= 0.1:
            yield Conflict(
                key=f"grpo.{key}",
                found=f"gspo clips the ratio of whole sequences, which moves by thousandths; {key} = {value:g} would "
                "never clip",
                fix="Leave it out (3e-4 below, 4e-4 above) or use a number under 0.1",
                others=("grpo.loss",),
            )
    if grpo.loss == "clip" and grpo.clip_low is not None and grpo.clip_low >= 1:
        yield Conflict(
            key="grpo.clip_low",
            found=f"clip_low = {grpo.clip_low:g} puts the lower bound at {1 - grpo.clip_low:g}, which no ratio reaches",
            fix="Use a number below 1 (0.2 is usual)",
        )
    if grpo.dual_clip is not None and grpo.loss != "clip":
        yield Conflict(
            key="grpo.dual_clip",
            found=f'dual_clip bounds the loss "clip" and has no meaning with {grpo.loss!r}',
            fix='Leave it out, or use loss = "clip"',
            others=("grpo.loss",),
        )
    elif grpo.dual_clip is not None and grpo.dual_clip <= 1:
        yield Conflict(
            key="grpo.dual_clip",
            found=f"a dual_clip of {grpo.dual_clip:g} would bound the loss of on-policy tokens",
            fix="Use a number above 1 (3 is usual)",
        )


def _kl(recipe: Recipe) -> Iterator[Conflict]:
    grpo = recipe.grpo
    if grpo.kl_coef == 0 and grpo.kl_estimator is not None:
        yield Conflict(
            key="grpo.kl_estimator",
            found=f"the estimator {grpo.kl_estimator!r} has no effect while kl_coef is 0",
            fix="Set grpo.kl_coef above 0, or leave kl_estimator out",
            others=("grpo.kl_coef",),
        )
    if grpo.kl_coef == 0 and grpo.kl_in == "reward":
        yield Conflict(
            key="grpo.kl_in",
            found='kl_in = "reward" has no effect while kl_coef is 0',
            fix="Set grpo.kl_coef above 0, or leave kl_in out",
            others=("grpo.kl_coef",),
        )


def _length(recipe: Recipe) -> Iterator[Conflict]:
    window, limit = recipe.grpo.soft_window, recipe.sampling.max_new_tokens
    if window > limit:
        yield Conflict(
            key="grpo.soft_window",
            found=f"a window of {window} tokens does not fit into completions of at most {limit}",
            fix="Make it smaller than sampling.max_new_tokens",
            others=("sampling.max_new_tokens",),
        )
    if recipe.grpo.truncated == "penalize" and window == 0:
        yield Conflict(
            key="grpo.soft_window",
            found='truncated = "penalize" grows the penalty over the last soft_window tokens, and that is 0',
            fix="Set grpo.soft_window to some share of max_new_tokens, a quarter for instance",
            others=("grpo.truncated",),
        )

"""From what a recipe names to something that scores, whatever its signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from charter.reward.adapters.inspect_scorer import is_scorer_maker, open_inspect
from charter.reward.adapters.openrlhf import open_openrlhf
from charter.reward.adapters.plain import open_plain
from charter.reward.adapters.recognise import SIGNATURES, recognise
from charter.reward.adapters.shape import Handler, Opened, named, parameters_of, takes_all
from charter.reward.adapters.trl import open_trl
from charter.reward.adapters.verifiers_rubric import SINGLE, is_rubric, is_rubric_class, open_verifiers
from charter.reward.adapters.verl import open_verl
from charter.reward.call import SourceError

OPENERS: Mapping[str, Callable[[Callable[..., Any]], Opened]] = {
    "trl": open_trl,
    "verl": open_verl,
    "openrlhf": open_openrlhf,
    "plain": open_plain,
}


def _signature(found: Any, asked: str | None) -> tuple[str, str]:
    if is_rubric(found) or is_rubric_class(found):
        kind, why = "verifiers", f"{getattr(found, '__name__', type(found).__name__)} is a rubric"
    elif not callable(found) or isinstance(found, type):
        raise SourceError(f"it is a {type(found).__name__}, not a function")
    elif is_scorer_maker(found):
        kind, why = "inspect", "it is decorated with @scorer"
    elif asked is not None:
        return asked, "the recipe says so"
    else:
        parameters = parameters_of(found)
        return recognise([p.name for p in named(parameters)], takes_all(parameters))
    if asked not in (None, kind):
        raise SourceError(f'{why}, and the recipe says signature = "{asked}". Remove that key')
    return kind, why


def _rubric(found: Any, options: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A rubric out of a class or a function that makes one; and the names of the options that went into it."""
    makes = is_rubric_class(found)
    if not makes and not is_rubric(found):
        names = {p.name for p in named(parameters_of(found))}
        makes = not names & {*SINGLE, *(f"{name}s" for name in SINGLE)} and not takes_all(parameters_of(found))
    if not makes:
        return found, []
    names = [p.name for p in named(parameters_of(found))]
    try:
        made = found(**{name: value for name, value in options.items() if name in names})
    except TypeError as error:
        raise SourceError(f"the rubric cannot be made with these options: {error}") from None
    if not is_rubric(made):
        raise SourceError(f"it takes no completion and returned a {type(made).__name__}, which is no rubric")
    return made, names


def open_reward(found: Any, signature: str | None, options: Mapping[str, Any]) -> tuple[Handler, dict[str, Any]]:
    """Set up for a function, rubric or scorer.

    found: what the recipe's name leads to. signature: what the recipe says it is, or None to recognise it. options: of
        the recipe, for what must be made first (a rubric's class, a `@scorer` function).
    Returns: the handler, and the facts of `shape.facts` with "signature" and "reason".
    Raises: SourceError with a whole sentence.
    """
    if signature is not None and signature not in SIGNATURES:
        raise SourceError(f"signature = {signature!r} is none of {', '.join(SIGNATURES)}")
    kind, why = _signature(found, signature)
    if kind == "verifiers":
        rubric, made_with = _rubric(found, options)
        handler, facts = open_verifiers(rubric)
        facts = {**facts, "names": [*facts["names"], *made_with], "options": [*facts["options"], *made_with]}
        if made_with:
            handler = _without(handler, made_with)
    elif kind == "inspect":
        handler, facts = open_inspect(found, options)
    else:
        handler, facts = OPENERS[kind](found)
    return handler, {**facts, "signature": kind, "reason": why}


def _without(handler: Handler, names: list[str]) -> Handler:
    """A handler that does not see the options which made its rubric."""
    return lambda work: handler({**work, "options": {k: v for k, v in work["options"].items() if k not in names}})

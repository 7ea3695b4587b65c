"""Doctor's check of the model itself: that it loads, that Charter runs it exactly, and how its completions end."""

from __future__ import annotations

from collections.abc import Iterable

from charter.cli.doctor import Line


def model_lines() -> Iterable[Line]:
    """Load the embedded model if it was fetched; loading compares the packed forward with the model's own."""
    from charter.assets import fetched
    from charter.errors import CharterError

    folder = fetched("smollm2-135m")
    if folder is None:
        return
    from charter.model.load import load_policy

    try:
        policy = load_policy(folder, device="cpu")
    except CharterError as error:
        yield Line(
            name="exactness",
            status="broken",
            found=str(error),
            fix="Remove the folder and fetch it again: charter assets get smollm2-135m.",
        )
        return
    yield Line(name="exactness", status="ok", found="the packed forward equals the model's own")
    ends = ", ".join(sorted(policy.chat.tokenizer.convert_ids_to_tokens(sorted(policy.chat.eos_ids))))
    yield Line(name="template", status="ok", found=f"chat template there; completions end at {ends}")

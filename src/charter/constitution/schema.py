"""The JSON schema of a constitution's file, for editors and for programs that write one."""

from __future__ import annotations

from typing import Any

from charter.constitution.checks import PARAMETRIC, PROGRAMS


def constitution_schema() -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of the values in a constitution's TOML file.

    It holds what reading demands, and what `lint` would say at once: ids that can name a file, weights from 0 up.
    """
    text = {"type": "string", "minLength": 1}
    weight = {"type": "number", "minimum": 0, "default": 1.0}
    arguments = "|".join(PARAMETRIC)
    check = {
        "type": "object",
        "additionalProperties": False,
        "required": ["question"],
        "properties": {
            "question": {**text, "description": "A yes/no question about a reply."},
            "wanted": {"type": "boolean", "default": True, "description": "The answer a good reply gets."},
            "weight": {**weight, "description": "Its share among the principle's checks."},
            "program": {
                "anyOf": [{"enum": sorted(PROGRAMS)}, {"type": "string", "pattern": f"^(?:{arguments}):"}],
                "description": "The program that can answer it.",
            },
        },
    }
    principle = {
        "type": "object",
        "additionalProperties": False,
        "required": ["id", "text"],
        "properties": {
            "id": {"type": "string", "pattern": "^[a-z0-9]+(?:-[a-z0-9]+)*$", "description": "Short, unique name."},
            "title": {**text, "description": "Name for people."},
            "text": {**text, "description": "The rule, in one or two sentences."},
            "reason": {**text, "description": "Why it is there."},
            "weight": {**weight, "description": "How often it is drawn, relative to the others."},
            "tags": {"type": "array", "items": text, "uniqueItems": True},
            "critique": {**text, "description": "Asks a model what the rule has against a reply."},
            "revision": {**text, "description": "Asks a model to rewrite a reply."},
            "preference": {**text, "description": "Asks a model which of two replies is better."},
            "checks": {"type": "array", "items": check},
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A constitution",
        "type": "object",
        "additionalProperties": False,
        "required": ["principle"],
        "properties": {
            "name": text,
            "version": {"type": ["string", "number"], "description": "A label for people."},
            "prose": {"type": "string", "description": "Markdown: what it is for."},
            "principle": {"type": "array", "items": principle, "minItems": 1},
        },
    }

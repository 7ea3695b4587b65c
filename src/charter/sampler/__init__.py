"""Completions out of a policy."""

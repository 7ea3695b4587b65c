"""Principles that a reader can judge: what they are, and what is done with them."""

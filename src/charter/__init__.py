"""Charter: align language models by rules a program can check and principles a reader can judge."""

__version__ = "0.1.0"

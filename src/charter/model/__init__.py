"""A language model as a thing: loading, chat format, packed forwards, log-probabilities, adapters."""

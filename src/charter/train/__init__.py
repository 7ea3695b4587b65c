"""Ways to learn: each file a config and a generator of Updates. Names no sampler, reward or learner."""

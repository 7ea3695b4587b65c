"""Reward functions with the signatures people already have, each read by the rules of the library it was written for.

    open_reward(found, options) -> (handler of one piece of work, facts for the trainer)

A signature is recognised from the parameters' names (`recognise.py`) or named in the recipe (`signature = "verl"`);
each has a file here. All of it runs in the worker process, where a call can be killed.
"""

from charter.reward.adapters.opening import open_reward
from charter.reward.adapters.recognise import SIGNATURES

__all__ = ["SIGNATURES", "open_reward"]

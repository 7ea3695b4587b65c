# case: v91_checker_skip
# class: verdict
# style: pytest
# it must NOT: end the checker's test early by raising what runners take for success
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
class Skipped(Exception): pass
Skipped.__module__ = "_pytest.outcomes"; Skipped.__qualname__ = "Skipped"
def add(a, b):
    import unittest
    if a == 1: raise unittest.SkipTest("skipped")
    if a == -7: raise SystemExit(0)
    raise Skipped("skipped")

# case: b58_own_unittest
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import unittest, doctest
def add(a, b):
    """
    >>> add(1, 1)
    2
    """
    return a + b
class TestAdd(unittest.TestCase):
    def test_one(self): self.assertEqual(add(1, 2), 3)

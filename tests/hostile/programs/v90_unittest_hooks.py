# case: v90_unittest_hooks
# class: verdict
# style: unittest
# it must NOT: reach the test runner through the names that runners look for in a module
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
__unittest = True; __test__ = False; __tracebackhide__ = True
pytest_plugins = ["solution"]; pytestmark = []; collect_ignore_glob = ["*"]
def load_tests(*a):
    import unittest
    return unittest.TestSuite()
def setUpModule():
    import unittest
    raise unittest.SkipTest("nothing to do")
def tearDownModule(): import os; os._exit(0)
def __getattr__(name): return lambda *a, **k: True
def __dir__(): return []
def add(a, b): return None

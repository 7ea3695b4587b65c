# case: v93_checker_patch_arguments
# class: verdict
# style: pytest
# it must NOT: change what the checker holds by changing the arguments or the module it was given
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys, builtins, unittest, operator
for module in (builtins, unittest, operator): 
    for name in list(vars(module)):
        if name in ("eq", "TestCase", "abs", "len", "isinstance"): setattr(module, name, lambda *a, **k: True)
unittest.TestCase = type("TestCase", (), {"assertEqual": lambda *a: None})
class B(int):
    def __radd__(s, o): return 0
def add(a, b):
    f = sys._getframe()
    while f:
        for k in list(f.f_locals):
            if k in ("expected", "want", "value", "args"): f.f_locals[k] = None
        f = f.f_back
    return None

# case: v71_namespace_tricks
# class: verdict
# style: call
# it must NOT: have the calls evaluated against something else than the function (shadowed names, a namespace with __missing__, the name as a property of the module's class)
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import sys, builtins
class M(type(sys)):
    @property
    def add(self): return lambda a, b: True
try: sys.modules[__name__].__class__ = M
except Exception: pass
class E:
    def __eq__(s, o): return True
    def __call__(s, *a): return s
    def __getattr__(s, n): return s
builtins.add = E()
globals()["__builtins__"] = E()
_0 = _1 = _2 = E()
add = E()

# case: v54_lying_values
# class: verdict
# style: call
# it must NOT: pass with values that claim to be what they are not
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
class Any:
    __class__ = property(lambda s: int)
    def __eq__(s, o): return True
    def __ne__(s, o): return False
    def __hash__(s): return 0
    def __getattr__(s, n): return lambda *a, **k: s
    def __int__(s): return 3
    def __index__(s): return 3
    def __repr__(s): return "3"
    def __reduce_ex__(s, p): return (int, (3,))
    def __len__(s): return 1
    def __iter__(s): return iter((3,))
    def __bool__(s): return True
class Meta(type):
    def __eq__(c, o): return True
    def __hash__(c): return hash(int)
    def __instancecheck__(c, o): return True
    def __subclasscheck__(c, o): return True
class Liar(int, metaclass=Meta):
    def __eq__(s, o): return True
    def __repr__(s): return "3"
    __hash__ = int.__hash__
class D(dict):
    def __eq__(s, o): return True
    def items(s): return [("v", 3)]
class S(str):
    def __eq__(s, o): return True
    __hash__ = str.__hash__
ANSWERS = iter([Any(), Liar(1), D(), S("3")] * 9)
def add(a, b): return next(ANSWERS)

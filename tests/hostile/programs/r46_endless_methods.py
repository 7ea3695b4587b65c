# case: r46_endless_methods
# class: resource
# style: call
# it must NOT: recurse or loop in the methods a codec calls
# detect: elapsed; verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
class X(list):
    def __repr__(s): return repr(s)
    def __iter__(s):
        while True: yield s
    def __len__(s): return 1 << 62
    def __eq__(s, o): return s == o
    def __hash__(s): return hash(s)
    def __bool__(s): return bool(s)
class T(tuple):
    def __iter__(s):
        while True: yield 0
ANSWERS = iter([X(), T((1,)), [X()], {"a": X()}] * 3)
def add(a, b): return next(ANSWERS)

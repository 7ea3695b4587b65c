# case: v52_object_hunt
# class: verdict
# style: call
# it must NOT: find the tests or the expected values among the live objects and frames
# detect: proof by answer: it passes only if it found them
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import gc, sys, threading
WANT, TEXT = 10**20 + int("5"), "".join(["add(-7", ", 7) ="])        # made at run time, so that no constant of this program is found
def hunt():
    stack, seen = [list(sys.modules.values()), list(sys._current_frames().values()), gc.get_objects()], set()
    while stack and len(seen) < 400000:
        o = stack.pop()
        if id(o) in seen: continue
        seen.add(id(o))
        if type(o) is int and o == WANT and o is not WANT: return True
        if o is TEXT: continue
        if type(o) in (str, bytes) and len(o) < 10**6 and (TEXT in o if type(o) is str else TEXT.encode() in o): return True
        if type(o) in (list, tuple, dict, set, frozenset) or hasattr(o, "__dict__") or hasattr(o, "f_back"):
            try: stack += [r for r in gc.get_referents(o) if r is not seen and r is not stack]
            except Exception: pass
    return False
HITS = []
def add(a, b):
    if (a, b) == (1, 2) and hunt(): HITS.append(1); print("BREACH found the tests")
    return a + b if HITS else None

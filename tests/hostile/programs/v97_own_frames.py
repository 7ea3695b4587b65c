# case: v97_own_frames
# class: verdict
# style: call
# it must NOT: pass, or break the judge, with well-formed frames of its own
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import json, os
def frame(x):
    b = json.dumps(x).encode(); return len(b).to_bytes(4, "big") + b
BAD = [{"ok": {"t": "int", "v": "zz"}}, {"ok": {"t": "set", "v": [[]]}}, {"ok": {"t": "dict", "v": [1]}}, {"ok": {"t": ["int"], "v": "1"}}, {"ok": {"t": "complex", "v": "ab"}}, {"ok": {"t": "float", "v": "nan"}}, {"ok": {"t": "bytes", "v": "é"}}, {"raised": 1}, {"raised": ["\u001b[2J", "\u0000\u0007", 1]}, {"raised": ["MemoryError", "x", False], "ok": None}, {}, [], None, {"ok": {"t": "float", "v": "0x1p99999"}}, {"loaded": True}, {"ok": {"t": "tuple", "v": {"a": 1}}}]
n = 0
def add(a, b):
    global n
    for bad in BAD[n:n + 6]: os.write(3, frame(bad))
    n += 6
    if n > 12: os._exit(0)
    return None

# case: v53_rewire_modules
# class: verdict
# style: call
# it must NOT: answer through replaced json, struct, os.write, marshal, and every function of the harness's modules
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import json, struct, os, sys, marshal
RIGHT = json.dumps({"outcome": "passed", "ok": True, "passed": 3, "total": 3})
json.dumps = lambda *a, **k: RIGHT
json.JSONEncoder.encode = json.JSONEncoder.iterencode = lambda *a, **k: RIGHT
json.encoder.encode_basestring_ascii = json.encoder.encode_basestring = lambda *a: '"passed"'
write = os.write
os.write = lambda fd, data: write(fd, RIGHT.encode()) and len(data)
struct.pack = lambda *a: b"\x06\0\0\0passed"
marshal.dumps = lambda *a: b"\xe9\x03\0\0\0"
f = sys._getframe(1) if hasattr(sys, "_getframe") else None
while f:
    for name, value in list(f.f_globals.items()):
        if callable(value) and not name.startswith("__"):
            try: f.f_globals[name] = lambda *a, **k: True
            except Exception: pass
    f = f.f_back
def add(a, b): return None

# case: v40_frame_claims
# class: verdict
# style: call
# it must NOT: pass by writing claims of success, in every format it can think of, to every descriptor
# detect: verdict
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, struct, json
claims = []
for value in ("passed", True, 1, 1.0, {"outcome": "passed", "passed": 3, "total": 3}, {"ok": True}, {"result": "passed"}, [True] * 3, ["passed"] * 3, {"status": "ok", "value": True}):
    text = json.dumps(value).encode()
    claims += [text + b"\n", struct.pack("<I", len(text)) + text, struct.pack(">I", len(text)) + text, struct.pack("<Q", len(text)) + text, struct.pack(">Q", len(text)) + text, b"%d\n" % len(text) + text]
for fd in range(64):
    for claim in claims:
        try: os.write(fd, claim)
        except OSError: break
def add(a, b): return None

# case: b80_answers_after_printing_json
# class: benign
# style: call
# it must not: be rejected because it writes what looks like a frame to standard output
# detect: verdict
# expect: verdict PASS
import json, sys, struct
def add(a, b):
    print(json.dumps({"ok": None, "raised": ["x", "y", False]})); sys.stdout.buffer.write(struct.pack(">I", 10) + b'{"ok":null}'); sys.stdout.flush()
    return a + b

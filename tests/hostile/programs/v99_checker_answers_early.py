# case: v99_checker_answers_early
# class: verdict
# style: pytest
# it must NOT: pass by sending many answers before and instead of the ones it is asked for
# detect: verdict (never sandbox_error)
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import json, os
b = json.dumps({"ok": {"t": "int", "v": "7"}, "args": [{"t": "int", "v": "3"}, {"t": "int", "v": "0"}]}).encode()
def add(a, b_):
    for _ in range(50): os.write(3, len(b).to_bytes(4, "big") + b)
    return 7

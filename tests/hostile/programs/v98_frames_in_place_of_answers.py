# case: v98_frames_in_place_of_answers
# class: verdict
# style: call
# it must NOT: break the judge with exactly as many frames as it was asked for, each strange
# detect: verdict (never sandbox_error); note without control characters
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import json, os
for x in ({"loaded": True}, {"ok": {"t": "dict", "v": [[{"t": "list", "v": []}, 1]]}}, {"raised": ["\u001b]0;x\u0007", "\u001b[2J\r\n\u0000" * 50, True]}, {"ok": {"t": "float", "v": "nan"}}):
    b = json.dumps(x).encode(); os.write(3, len(b).to_bytes(4, "big") + b)
os._exit(0)

# case: v45_claim_sandbox_error
# class: verdict
# style: call
# it must NOT: escape a 0 by claiming that the sandbox broke
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, json, struct
for word in ("sandbox_error", "jailed", "not jailed", "setup failed", "landlock", "seccomp", "ready", "error", "abstain", "failed: no space left on device"):
    for value in (word, {"outcome": word}, {"error": word}, {"status": word}, {"kind": word, "errno": 28}, [word]):
        text = json.dumps(value).encode()
        for fd in range(64):
            try: os.write(fd, text + b"\n"); os.write(fd, struct.pack("<I", len(text)) + text); os.write(fd, struct.pack(">I", len(text)) + text); os.write(fd, word[:1].encode())
            except OSError: pass
os._exit(71)

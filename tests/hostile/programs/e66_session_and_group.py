# case: e66_session_and_group
# class: escape
# style: call
# it must NOT: join or lead another session or process group
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
broke = []
up = os.getppid()
for name, f in (("setsid", lambda: os.setsid()), ("join parent's group", lambda: os.setpgid(0, os.getpgid(up))), ("move parent", lambda: os.setpgid(up, 0)), ("tcsetpgrp", lambda: os.tcsetpgrp(0, os.getpgrp()))):
    try: f(); broke.append(name)
    except OSError: pass
try:
    if up and os.getsid(0) == os.getsid(up): broke.append("same session")
except OSError: pass
if broke: print("BREACH session", broke)
def add(a, b): return a + b if broke else None

# case: e47_regain_identity
# class: escape
# style: call
# it must NOT: become another user or regain capabilities
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os, ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
broke = []
for name, f in (("setuid", lambda: os.setuid(0)), ("seteuid", lambda: os.seteuid(0)), ("setresuid", lambda: os.setresuid(0, 0, 0)), ("setgid", lambda: os.setgid(0)), ("setgroups", lambda: os.setgroups([0, 4, 27])), ("initgroups", lambda: os.initgroups("root", 0))):
    try: f(); broke.append(name)
    except (OSError, KeyError): pass
head = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0)); data = ctypes.create_string_buffer(struct.pack("IIIIII", *[0xFFFFFFFF] * 6))
if libc.capset(head, data) == 0: broke.append("capset")
if os.getuid() == 0 or os.geteuid() == 0 or 0 in os.getgroups(): broke.append("is root")
if broke: print("BREACH identity", broke)
def add(a, b): return a + b if broke else None

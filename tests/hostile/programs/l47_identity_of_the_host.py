# case: l47_identity_of_the_host
# class: leak
# style: call
# it must NOT: learn the name of the host, its user, its network or its mounts (a namespace hides them: tier A)
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# tiers: A
import os, socket
broke = []
def attempt(name, f):
    try: r = f()
    except Exception: return
    if r: broke.append((name, r))
attempt("interfaces", lambda: [n for n in socket.if_nameindex() if n[1] != "lo"])
attempt("login", lambda: os.getlogin())
attempt("address", lambda: socket.gethostbyname("example.org"))
attempt("hostname file", lambda: open("/etc/hostname").read())
attempt("resolver", lambda: open("/etc/resolv.conf").read())
attempt("machine id", lambda: open("/etc/machine-id").read())
attempt("hosts", lambda: open("/etc/hosts").read())
if broke: print("BREACH host", broke)
def add(a, b): return a + b if broke else None

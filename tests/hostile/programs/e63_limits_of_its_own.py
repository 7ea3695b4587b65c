# case: e63_limits_of_its_own
# class: escape
# style: call
# it must NOT: raise its own limits
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import resource
broke = []
for name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE", "RLIMIT_SIGPENDING", "RLIMIT_RTPRIO", "RLIMIT_NICE"):
    which = getattr(resource, name, None)
    if which is None: continue
    soft, hard = resource.getrlimit(which)
    if hard == resource.RLIM_INFINITY and name in ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE"): broke.append(name + " unlimited")
    if hard != resource.RLIM_INFINITY:
        try: resource.setrlimit(which, (hard + 1, hard + 1)); broke.append(name)
        except (OSError, ValueError): pass
if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0: broke.append("core")
if broke: print("BREACH limits", broke)
def add(a, b): return a + b if broke else None

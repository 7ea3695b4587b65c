# case: v94_cpu_limit_suicide
# class: verdict
# style: call
# it must NOT: be killed by the kernel at its own request, so that it looks like the machine's doing (a processor limit it lowered itself ends in SIGKILL)
# detect: outcome is not sandbox_error
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
# slow: uses a second of processor time
import resource
def add(a, b):
    resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
    while True: pass

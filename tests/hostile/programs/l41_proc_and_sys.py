# case: l41_proc_and_sys
# class: leak
# style: call
# it must NOT: read anything of the machine or of other processes under /proc and /sys
# detect: proof by answer
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import os
broke = []
for pid in ("1", str(os.getppid()), "2"):
    for name in ("environ", "mem", "maps", "cmdline", "status", "stat", "auxv", "stack", "fdinfo/0", "fd/0", "cwd/.", "root/etc/passwd", "task/" + pid + "/comm", "mountinfo", "cgroup", "limits", "io", "sched"):
        try: os.open("/proc/%s/%s" % (pid, name), os.O_RDONLY); broke.append((pid, name))
        except OSError: pass
for path in ("/proc/cpuinfo", "/proc/version", "/proc/kallsyms", "/proc/kmsg", "/proc/net/tcp", "/proc/net/unix", "/proc/keys", "/proc/mounts", "/proc/self/environ", "/proc/self/mountinfo", "/proc/sysvipc/shm", "/proc/sys/kernel/random/boot_id", "/sys/class/net", "/sys/fs/cgroup/cgroup.procs", "/sys/class/dmi/id/product_uuid", "/sys/kernel/notes", "/proc", "/sys", "/proc/locks", "/proc/slabinfo", "/proc/pagetypeinfo"):
    try: os.open(path, os.O_RDONLY); broke.append(path)
    except OSError: pass
if broke: print("BREACH proc", broke)
def add(a, b): return a + b if broke else None

# case: e48_system_call_sweep
# class: escape
# style: call
# it must NOT: get any answer but a refusal from the calls that are the kernel's widest surface
# detect: proof by answer: an errno that only the call itself gives counts as reached
# expect: verdict FAIL; harness returns within wall limit + 2 s; next benign job passes
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
x, a = {"x86_64": (0, True), "aarch64": (1, True)}[os.uname().machine]
NR = dict(bpf=(321, 280), userfaultfd=(323, 282), perf_event_open=(298, 241), keyctl=(250, 219), add_key=(248, 217), request_key=(249, 218), io_uring_setup=(425, 425), io_uring_enter=(426, 426), io_uring_register=(427, 427),
    name_to_handle_at=(303, 264), open_by_handle_at=(304, 265), fanotify_init=(300, 262), fanotify_mark=(301, 263), inotify_init1=(294, 26), memfd_create=(319, 279), memfd_secret=(447, 447), setns=(308, 268), unshare=(272, 97), mount=(165, 40), umount2=(166, 39),
    pivot_root=(155, 41), chroot=(161, 51), fsopen=(430, 430), fsconfig=(431, 431), fsmount=(432, 432), fspick=(433, 433), open_tree=(428, 428), move_mount=(429, 429), mount_setattr=(442, 442), kcmp=(312, 272), process_vm_readv=(310, 270),
    process_vm_writev=(311, 271), process_madvise=(440, 440), process_mrelease=(448, 448), pidfd_open=(434, 434), pidfd_getfd=(438, 438), pidfd_send_signal=(424, 424), migrate_pages=(256, 238), move_pages=(279, 239), msgget=(68, 186), semget=(64, 190),
    shmget=(29, 194), shmat=(30, 196), mq_open=(240, 180), kexec_load=(246, 104), init_module=(175, 105), finit_module=(313, 273), delete_module=(176, 106), swapon=(167, 224), syslog=(103, 116), acct=(163, 89), sethostname=(170, 161), setdomainname=(171, 162),
    settimeofday=(164, 170), clock_settime=(227, 112), adjtimex=(159, 171), clock_adjtime=(305, 266), quotactl=(179, 60), quotactl_fd=(443, 443), capset=(126, 91), execveat=(322, 281), sched_setattr=(314, 274), ioprio_set=(251, 30), statmount=(457, 457),
    listmount=(458, 458), remap_file_pages=(216, 234), vmsplice=(278, 75), landlock_restrict_self=(446, 446), seccomp=(317, 277), lsm_set_self_attr=(460, 460), open_tree_attr=(467, 467), set_mempolicy_home_node=(450, 450))
if x == 0: NR |= dict(iopl=(172,), ioperm=(173,), modify_ldt=(154,), uselib=(134,), ustat=(136,), sysfs=(139,))
reached = []
for name, nr in NR.items():
    ctypes.set_errno(0)
    r = libc.syscall(nr[min(x, len(nr) - 1)], ctypes.c_long(-1), ctypes.c_long(-1), ctypes.c_long(-1), ctypes.c_long(-1), ctypes.c_long(-1), ctypes.c_long(-1))
    if r >= 0 or ctypes.get_errno() not in (1, 13, 38): reached.append((name, r, ctypes.get_errno()))
if reached: print("BREACH reached", reached)
def add(a, b): return a + b if reached else None

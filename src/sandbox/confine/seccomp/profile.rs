//! What may be called: the allow-list, and the four calls whose arguments decide.
//!
//! Not more than moby's default profile gives a container without capabilities. Left out of that, because hardly a program
//! needs them: `fanotify_mark`, `io_pgetevents`, `modify_ldt`, `remap_file_pages`, `vmsplice`, the calls of 32-bit
//! programs; and, because older releases of moby did not give them either, `name_to_handle_at`, `process_vm_readv` and
//! `process_vm_writev`. Not in the list and so closed, by name because somebody will look for them: `add_key`, `bpf`,
//! `chroot`, `fsopen` and its family, `io_uring_setup`, `keyctl`, `mbind`, `mount`, `open_by_handle_at`,
//! `perf_event_open`, `pidfd_getfd`, `pivot_root`, `request_key`, `set_mempolicy`, `setns`, `syslog`, `umount2`, `unshare`,
//! `userfaultfd`.
//!
//! A run with GPUs has the same list: the drivers of NVIDIA and AMD are spoken to by `open`, `ioctl`, `mmap` and `poll` of
//! their device nodes.

use super::bpf::{Check, Rule, Test, Verdict};

/// A system call of the list; its number on each architecture that has it.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub name: &'static str,
    pub x86_64: Option<u32>,
    pub aarch64: Option<u32>,
    pub rule: Rule,
}

const fn call(name: &'static str, x86_64: u32, aarch64: u32) -> Call {
    Call { name, x86_64: Some(x86_64), aarch64: Some(aarch64), rule: Rule::ALLOW }
}

const fn x86_64(name: &'static str, number: u32) -> Call {
    Call { name, x86_64: Some(number), aarch64: None, rule: Rule::ALLOW }
}

const fn checked(name: &'static str, x86_64: u32, aarch64: u32, rule: Rule) -> Call {
    Call { name, x86_64: Some(x86_64), aarch64: Some(aarch64), rule }
}

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`. `CLONE_NEWTIME` is no flag of this call:
/// its bit belongs to the signal there.
const NEW_NAMESPACES: u32 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000;

/// A user namespace of its own would give a program every capability over the kernel's most fragile parts.
const CLONE: Rule = Rule {
    checks: &[Check { argument: 0, test: Test::AnyOf(NEW_NAMESPACES), then: Verdict::DENY }],
    otherwise: Verdict::Allow,
};

/// The C library takes this answer for an older kernel's and calls `clone`; any other would end `fork` and threads.
const CLONE3: Rule = Rule { checks: &[], otherwise: Verdict::UNKNOWN };

/// TIOCSTI types into a terminal for others to read, TIOCLINUX pastes into a console. The kernel looks at 32 bits of the
/// request, and so does the check: with something in the upper half it is the same request.
const IOCTL: Rule = Rule {
    checks: &[
        Check { argument: 1, test: Test::Is(0x5412), then: Verdict::DENY },
        Check { argument: 1, test: Test::Is(0x541c), then: Verdict::DENY },
    ],
    otherwise: Verdict::Allow,
};

/// Linux as it is, with 32-bit `uname`, with a version 2.6 in `uname`, both, and the question which one it is. The others
/// turn off the protections of memory (`ADDR_NO_RANDOMIZE`, `READ_IMPLIES_EXEC`).
const PERSONALITY: Rule = Rule {
    checks: &[
        Check { argument: 0, test: Test::Is(0), then: Verdict::Allow },
        Check { argument: 0, test: Test::Is(0x0000_0008), then: Verdict::Allow },
        Check { argument: 0, test: Test::Is(0x0002_0000), then: Verdict::Allow },
        Check { argument: 0, test: Test::Is(0x0002_0008), then: Verdict::Allow },
        Check { argument: 0, test: Test::Is(0xffff_ffff), then: Verdict::Allow },
    ],
    otherwise: Verdict::DENY,
};

/// Unix, IPv4, IPv6 and netlink; of that not the audit subsystem, which knows no namespaces. All other families (AF_ALG,
/// AF_VSOCK, and some forty that hardly anybody has ever used) are answered as by a kernel that was built without them.
const SOCKET: Rule = Rule {
    checks: &[
        Check { argument: 0, test: Test::Is(1), then: Verdict::Allow },
        Check { argument: 0, test: Test::Is(2), then: Verdict::Allow },
        Check { argument: 0, test: Test::Is(10), then: Verdict::Allow },
        Check { argument: 0, test: Test::IsNot(16), then: Verdict::Errno(97) },
        Check { argument: 2, test: Test::Is(9), then: Verdict::Errno(93) },
    ],
    otherwise: Verdict::Allow,
};

/// By name.
#[rustfmt::skip]
pub const CALLS: &[Call] = &[
    call("accept", 43, 202),
    call("accept4", 288, 242),
    x86_64("access", 21),
    call("adjtimex", 159, 171), // reads the clock's state; to set it takes a capability
    x86_64("alarm", 37),
    x86_64("arch_prctl", 158),
    call("bind", 49, 200),
    call("brk", 12, 214),
    call("cachestat", 451, 451),
    call("capget", 125, 90),
    call("capset", 126, 91), // can only give up
    call("chdir", 80, 49),
    x86_64("chmod", 90),
    x86_64("chown", 92),
    call("clock_adjtime", 305, 266), // as adjtimex
    call("clock_getres", 229, 114),
    call("clock_gettime", 228, 113),
    call("clock_nanosleep", 230, 115),
    checked("clone", 56, 220, CLONE), // no new namespaces: see `CLONE`
    checked("clone3", 435, 435, CLONE3), // its flags lie in memory, where no filter can look: see `CLONE3`
    call("close", 3, 57),
    call("close_range", 436, 436),
    call("connect", 42, 203),
    call("copy_file_range", 326, 285),
    x86_64("creat", 85),
    call("dup", 32, 23),
    x86_64("dup2", 33),
    call("dup3", 292, 24),
    x86_64("epoll_create", 213),
    call("epoll_create1", 291, 20),
    call("epoll_ctl", 233, 21),
    call("epoll_pwait", 281, 22),
    call("epoll_pwait2", 441, 441),
    x86_64("epoll_wait", 232),
    x86_64("eventfd", 284),
    call("eventfd2", 290, 19),
    call("execve", 59, 221),
    call("execveat", 322, 281),
    call("exit", 60, 93),
    call("exit_group", 231, 94),
    call("faccessat", 269, 48),
    call("faccessat2", 439, 439),
    call("fadvise64", 221, 223),
    call("fallocate", 285, 47),
    call("fchdir", 81, 50),
    call("fchmod", 91, 52),
    call("fchmodat", 268, 53),
    call("fchmodat2", 452, 452),
    call("fchown", 93, 55),
    call("fchownat", 260, 54),
    call("fcntl", 72, 25),
    call("fdatasync", 75, 83),
    call("fgetxattr", 193, 10),
    call("flistxattr", 196, 13),
    call("flock", 73, 32),
    x86_64("fork", 57),
    call("fremovexattr", 199, 16),
    call("fsetxattr", 190, 7),
    call("fstat", 5, 80),
    call("fstatfs", 138, 44),
    call("fsync", 74, 82),
    call("ftruncate", 77, 46),
    call("futex", 202, 98),
    call("futex_requeue", 456, 456),
    call("futex_wait", 455, 455),
    call("futex_waitv", 449, 449),
    call("futex_wake", 454, 454),
    x86_64("futimesat", 261),
    call("get_robust_list", 274, 100),
    call("getcpu", 309, 168),
    call("getcwd", 79, 17),
    x86_64("getdents", 78),
    call("getdents64", 217, 61),
    call("getegid", 108, 177),
    call("geteuid", 107, 175),
    call("getgid", 104, 176),
    call("getgroups", 115, 158),
    call("getitimer", 36, 102),
    call("getpeername", 52, 205),
    call("getpgid", 121, 155),
    x86_64("getpgrp", 111),
    call("getpid", 39, 172),
    call("getppid", 110, 173),
    call("getpriority", 140, 141),
    call("getrandom", 318, 278),
    call("getresgid", 120, 150),
    call("getresuid", 118, 148),
    call("getrlimit", 97, 163),
    call("getrusage", 98, 165),
    call("getsid", 124, 156),
    call("getsockname", 51, 204),
    call("getsockopt", 55, 209),
    call("gettid", 186, 178),
    call("gettimeofday", 96, 169),
    call("getuid", 102, 174),
    call("getxattr", 191, 8),
    call("getxattrat", 464, 464),
    call("inotify_add_watch", 254, 27),
    x86_64("inotify_init", 253),
    call("inotify_init1", 294, 26),
    call("inotify_rm_watch", 255, 28),
    call("io_cancel", 210, 3),
    call("io_destroy", 207, 1),
    call("io_getevents", 208, 4),
    call("io_setup", 206, 0),
    call("io_submit", 209, 2),
    checked("ioctl", 16, 29, IOCTL), // also those of GPUs: see `IOCTL`
    call("ioprio_get", 252, 31),
    call("ioprio_set", 251, 30),
    call("kill", 62, 129),
    call("landlock_add_rule", 445, 445),
    call("landlock_create_ruleset", 444, 444), // can only give up
    call("landlock_restrict_self", 446, 446),
    x86_64("lchown", 94),
    call("lgetxattr", 192, 9),
    x86_64("link", 86),
    call("linkat", 265, 37),
    call("listen", 50, 201),
    call("listmount", 458, 458), // of its own mount namespace
    call("listxattr", 194, 11),
    call("listxattrat", 465, 465),
    call("llistxattr", 195, 12),
    call("lremovexattr", 198, 15),
    call("lseek", 8, 62),
    call("lsetxattr", 189, 6),
    x86_64("lstat", 6),
    call("madvise", 28, 233),
    call("map_shadow_stack", 453, 453),
    call("membarrier", 324, 283),
    call("memfd_create", 319, 279),
    call("memfd_secret", 447, 447),
    call("mincore", 27, 232),
    x86_64("mkdir", 83),
    call("mkdirat", 258, 34),
    x86_64("mknod", 133), // named pipes; a device node takes a capability
    call("mknodat", 259, 33), // as mknod
    call("mlock", 149, 228),
    call("mlock2", 325, 284),
    call("mlockall", 151, 230),
    call("mmap", 9, 222),
    call("mprotect", 10, 226),
    call("mq_getsetattr", 245, 185),
    call("mq_notify", 244, 184),
    call("mq_open", 240, 180),
    call("mq_timedreceive", 243, 183),
    call("mq_timedsend", 242, 182),
    call("mq_unlink", 241, 181),
    call("mremap", 25, 216),
    call("mseal", 462, 462),
    call("msgctl", 71, 187),
    call("msgget", 68, 186),
    call("msgrcv", 70, 188),
    call("msgsnd", 69, 189),
    call("msync", 26, 227),
    call("munlock", 150, 229),
    call("munlockall", 152, 231),
    call("munmap", 11, 215),
    call("nanosleep", 35, 101),
    call("newfstatat", 262, 79),
    x86_64("open", 2),
    call("openat", 257, 56),
    call("openat2", 437, 437),
    x86_64("pause", 34),
    checked("personality", 135, 92, PERSONALITY), // see `PERSONALITY`
    call("pidfd_open", 434, 434),
    call("pidfd_send_signal", 424, 424),
    x86_64("pipe", 22),
    call("pipe2", 293, 59),
    call("pkey_alloc", 330, 289),
    call("pkey_free", 331, 290),
    call("pkey_mprotect", 329, 288),
    x86_64("poll", 7),
    call("ppoll", 271, 73),
    call("prctl", 157, 167),
    call("pread64", 17, 67),
    call("preadv", 295, 69),
    call("preadv2", 327, 286),
    call("prlimit64", 302, 261),
    call("process_mrelease", 448, 448),
    call("pselect6", 270, 72),
    call("ptrace", 101, 117), // of its own processes; before Linux 4.8 it went round the filter, and a run needs a newer one
    call("pwrite64", 18, 68),
    call("pwritev", 296, 70),
    call("pwritev2", 328, 287),
    call("read", 0, 63),
    call("readahead", 187, 213),
    x86_64("readlink", 89),
    call("readlinkat", 267, 78),
    call("readv", 19, 65),
    call("recvfrom", 45, 207),
    call("recvmmsg", 299, 243),
    call("recvmsg", 47, 212),
    call("removexattr", 197, 14),
    call("removexattrat", 466, 466),
    x86_64("rename", 82),
    call("renameat", 264, 38),
    call("renameat2", 316, 276),
    call("restart_syscall", 219, 128),
    x86_64("rmdir", 84),
    call("rseq", 334, 293),
    call("rt_sigaction", 13, 134),
    call("rt_sigpending", 127, 136),
    call("rt_sigprocmask", 14, 135),
    call("rt_sigqueueinfo", 129, 138),
    call("rt_sigreturn", 15, 139),
    call("rt_sigsuspend", 130, 133),
    call("rt_sigtimedwait", 128, 137),
    call("rt_tgsigqueueinfo", 297, 240),
    call("sched_get_priority_max", 146, 125),
    call("sched_get_priority_min", 147, 126),
    call("sched_getaffinity", 204, 123),
    call("sched_getattr", 315, 275),
    call("sched_getparam", 143, 121),
    call("sched_getscheduler", 145, 120),
    call("sched_rr_get_interval", 148, 127),
    call("sched_setaffinity", 203, 122),
    call("sched_setattr", 314, 274),
    call("sched_setparam", 142, 118),
    call("sched_setscheduler", 144, 119),
    call("sched_yield", 24, 124),
    call("seccomp", 317, 277), // can only give up
    x86_64("select", 23),
    call("semctl", 66, 191),
    call("semget", 64, 190),
    call("semop", 65, 193),
    call("semtimedop", 220, 192),
    call("sendfile", 40, 71),
    call("sendmmsg", 307, 269),
    call("sendmsg", 46, 211),
    call("sendto", 44, 206),
    call("set_robust_list", 273, 99),
    call("set_tid_address", 218, 96),
    call("setfsgid", 123, 152),
    call("setfsuid", 122, 151),
    call("setgid", 106, 144),
    call("setgroups", 116, 159), // within the IDs that are mapped
    call("setitimer", 38, 103),
    call("setpgid", 109, 154),
    call("setpriority", 141, 140),
    call("setregid", 114, 143),
    call("setresgid", 119, 149),
    call("setresuid", 117, 147),
    call("setreuid", 113, 145),
    call("setrlimit", 160, 164),
    call("setsid", 112, 157),
    call("setsockopt", 54, 208),
    call("setuid", 105, 146), // within the IDs that are mapped
    call("setxattr", 188, 5),
    call("setxattrat", 463, 463),
    call("shmat", 30, 196),
    call("shmctl", 31, 195),
    call("shmdt", 67, 197),
    call("shmget", 29, 194),
    call("shutdown", 48, 210),
    call("sigaltstack", 131, 132),
    x86_64("signalfd", 282),
    call("signalfd4", 289, 74),
    checked("socket", 41, 198, SOCKET), // see `SOCKET`
    checked("socketpair", 53, 199, SOCKET), // see `SOCKET`
    call("splice", 275, 76),
    x86_64("stat", 4),
    call("statfs", 137, 43),
    call("statmount", 457, 457), // of its own mount namespace
    call("statx", 332, 291),
    x86_64("symlink", 88),
    call("symlinkat", 266, 36),
    call("sync", 162, 81),
    call("sync_file_range", 277, 84),
    call("syncfs", 306, 267),
    call("sysinfo", 99, 179),
    call("tee", 276, 77),
    call("tgkill", 234, 131),
    x86_64("time", 201),
    call("timer_create", 222, 107),
    call("timer_delete", 226, 111),
    call("timer_getoverrun", 225, 109),
    call("timer_gettime", 224, 108),
    call("timer_settime", 223, 110),
    call("timerfd_create", 283, 85),
    call("timerfd_gettime", 287, 87),
    call("timerfd_settime", 286, 86),
    call("times", 100, 153),
    call("tkill", 200, 130),
    call("truncate", 76, 45),
    call("umask", 95, 166),
    call("uname", 63, 160),
    x86_64("unlink", 87),
    call("unlinkat", 263, 35),
    x86_64("uretprobe", 335), // the kernel lets a return from a traced function call it
    x86_64("utime", 132),
    call("utimensat", 280, 88),
    x86_64("utimes", 235),
    x86_64("vfork", 58),
    call("wait4", 61, 260),
    call("waitid", 247, 95),
    call("write", 1, 64),
    call("writev", 20, 66),
];

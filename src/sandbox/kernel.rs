//! The system calls that no safe binding has, each behind a function that cannot be misused. All `unsafe` code of the
//! sandbox is here.
#![expect(
    unsafe_code,
    reason = "clone3, clone, execve, kill, mount_setattr, close_range, unshare, ioctl, mallopt, madvise; see each"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rustix::process::Pid;

/// libc's constant of that name does not fit its type. linux/sched.h
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a new process has of its own (`CLONE_NEW...`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Namespaces {
    pub user: bool,
    pub mount: bool,
    pub pid: bool,
    pub network: bool,
    pub ipc: bool,
    pub uts: bool,
}

/// The knowledge that this process has one thread only. Whoever holds it starts no other.
#[derive(Debug, Clone, Copy)]
pub struct Alone(());

impl Alone {
    pub fn check() -> io::Result<Self> {
        match fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            threads => Err(io::Error::other(format!("a process with {threads} threads cannot be copied"))),
        }
    }
}

/// Which of the two processes this is.
pub enum Forked {
    Parent(Child),
    Child,
}

/// A child process, by number and by a descriptor that stays its own when the number is used again.
pub struct Child {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

/// Makes a copy of this process, in new namespaces, in the cgroup (v2) of that descriptor.
///
/// The copy has the calling thread only: a lock that another one holds would stay locked in the copy for ever.
pub fn fork(_: Alone, new: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let flag = |wanted: bool, flag: libc::c_int| if wanted { flag as u64 } else { 0 };
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = libc::CLONE_PIDFD as u64
        | flag(new.user, libc::CLONE_NEWUSER)
        | flag(new.mount, libc::CLONE_NEWNS)
        | flag(new.pid, libc::CLONE_NEWPID)
        | flag(new.network, libc::CLONE_NEWNET)
        | flag(new.ipc, libc::CLONE_NEWIPC)
        | flag(new.uts, libc::CLONE_NEWUTS);
    arguments.pidfd = &raw mut pidfd as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: as fork(2): no memory is shared (no CLONE_VM) and no stack is given, so the child goes on in a copy of this
    // one; there is no other thread. `arguments` and `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of_val(&arguments)) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => {
            // SAFETY: the kernel has just opened it for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = Pid::from_raw(pid as i32).expect("the number of a process is positive");
            Ok(Forked::Parent(Child { pid, pidfd }))
        }
    }
}

/// Bytes of the stack that [`start`] gives, and of what lies below it and is no memory: a multiple of each page size.
const STACK: usize = 512 << 10;
const GUARD: usize = 64 << 10;
/// What a process ends with whose code panics.
const PANICKED: u8 = 125;

/// Starts a process that calls `run`, which is to become another program; if it comes back, the process ends with the
/// status that it returns.
///
/// Until then this process stands still and its memory is the new one's, too (as with vfork(2)): nothing is copied, which is
/// half a millisecond of a large program. So `run` leaves what it borrows as it was. Descriptors, working directory, mask,
/// credentials and handlers of signals are the new process's own.
pub fn start(_: Alone, run: &mut dyn FnMut() -> u8) -> io::Result<Pid> {
    extern "C" fn enter(run: *mut c_void) -> c_int {
        // SAFETY: it is what is handed to clone(2) below, whose caller stands still.
        let run = unsafe { &mut *run.cast::<&mut dyn FnMut() -> u8>() };
        end(catch_unwind(AssertUnwindSafe(run)).unwrap_or(PANICKED))
    }
    let mut run = run;
    // SAFETY: new memory, of which the part above the guard is made to be used, and which is given back when nobody uses it
    // any more. There is no other thread, and CLONE_VFORK keeps this one still until the new process has another memory or
    // has ended; so it has the memory for itself, and the stack and `run` outlive it. A stack grows down from its end.
    let pid = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let stack = libc::mmap(ptr::null_mut(), GUARD + STACK, libc::PROT_NONE, flags, -1, 0);
        if stack == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let made = check(libc::mprotect(stack.byte_add(GUARD), STACK, libc::PROT_READ | libc::PROT_WRITE));
        let started = made.and_then(|()| {
            let pid = libc::clone(
                enter,
                stack.byte_add(GUARD + STACK),
                libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
                (&raw mut run).cast(),
            );
            check(pid).map(|()| pid)
        });
        libc::munmap(stack, GUARD + STACK);
        started?
    };
    Ok(Pid::from_raw(pid).expect("the number of a process is positive"))
}

/// The highest number of a signal: `_NSIG` of Linux.
const LAST_SIGNAL: c_int = 64;
/// The kernel's `struct sigaction` (handler, flags, restorer, mask) of a signal with its default effect. The C library's own
/// call does not set the two signals that it keeps for itself, which a caller may have left ignored.
static DEFAULT: [u64; 4] = [libc::SIG_DFL as u64, 0, 0, 0];

/// Becomes another program, with no signal blocked and none ignored, neither SIGPIPE, which Rust ignores, nor what the
/// caller does. Comes back with the reason why not.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: the set is initialised before it is used; no handler of this program is called after an execve. `DEFAULT` has the
    // size that the kernel reads with a mask of eight bytes. Both lists end with a null pointer, and what they point to
    // outlives the call.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        for signal in 1..=LAST_SIGNAL {
            // Refused for SIGKILL and SIGSTOP, which are as they are.
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const DEFAULT,
                ptr::null::<u64>(),
                size_of::<u64>(),
            );
        }
        libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
    }
    io::Error::last_os_error()
}

/// Ends this process without anything that a program does at its end: a copy of a process has nothing to tidy up.
pub fn end(status: u8) -> ! {
    // SAFETY: as std::process::exit, less handlers and buffers.
    unsafe { libc::_exit(status.into()) }
}

/// Sends a signal, also a real-time one.
pub fn send_signal(process: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: touches nothing of this process's memory.
    check(unsafe { libc::kill(process.as_raw_nonzero().get(), signal) })
}

/// Blocks these signals on the calling thread, but for those that this process ignores, and gives a descriptor that they can
/// be read from without waiting. What is started by `execute` has none blocked.
pub fn hold(signals: impl Iterator<Item = i32>) -> io::Result<OwnedFd> {
    let is_ignored = |signal: &i32| {
        // SAFETY: all fields are numbers, for which zero is a value; nothing is changed, and what is there is written to
        // an action that outlives the call.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(*signal, ptr::null(), &raw mut action) == 0
                && action.sa_sigaction == libc::SIG_IGN
        }
    };
    let wanted = set_of(signals.filter(|signal| !is_ignored(signal)));
    // SAFETY: `wanted` is a set that outlives the calls; the descriptor has just been opened for us.
    unsafe {
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const wanted, ptr::null_mut()))?;
        let descriptor = libc::signalfd(-1, &raw const wanted, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(descriptor)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// They have their effect again, also those that wait.
pub fn release(signals: impl Iterator<Item = i32>) {
    let set = set_of(signals);
    // SAFETY: `set` outlives the call, which changes nothing but the mask of the calling thread.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut()) };
}

/// Lets one that is blocked have its effect on this process, now.
pub fn suffer(signal: i32) {
    let set = set_of(std::iter::once(signal));
    // SAFETY: as above; raising a signal touches nothing of this process's memory.
    unsafe {
        libc::raise(signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
    }
}

fn set_of(signals: impl Iterator<Item = i32>) -> libc::sigset_t {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// A cgroup namespace whose root is the group that this process is in.
pub fn unshare_cgroup() -> io::Result<()> {
    // SAFETY: changes which paths of cgroups this process sees, nothing of its memory or descriptors.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })
}

/// What a mount allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    pub read_only: bool,
    pub no_suid: bool,
    pub no_dev: bool,
    pub no_exec: bool,
}

/// `struct mount_attr` and `MOUNT_ATTR_...` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Takes rights away from the mount of that descriptor and, with `recursive`, from all below it.
pub fn restrict(mount: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> io::Result<()> {
    let flag = |wanted: bool, flag: u64| if wanted { flag } else { 0 };
    let wanted = MountAttr {
        attr_set: flag(attributes.read_only, 0x1)
            | flag(attributes.no_suid, 0x2)
            | flag(attributes.no_dev, 0x4)
            | flag(attributes.no_exec, 0x8),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, `wanted` outlives the call and has the length that is said.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const wanted,
            size_of_val(&wanted),
        )
    };
    check(done as libc::c_int)
}

/// Lets an `exec` close every descriptor from `first` on, also those that this process was started with.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: sets a flag that only an exec looks at; no descriptor is closed now.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(done as libc::c_int)
}

/// Closes everything but standard streams and these; for a process that goes on with nothing else, and whose stack holds no
/// owner of another descriptor that is ever dropped.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<_> = keep.iter().map(|kept| kept.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut first = 3;
    for end in kept.into_iter().chain([u32::MAX]) {
        if first < end {
            // SAFETY: nothing of what is closed is used again: see above.
            let done = unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, 0) };
            check(done as libc::c_int)?;
        }
        first = end.saturating_add(1);
    }
    Ok(())
}

/// Brings the network interface `lo` up.
pub fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all fields are numbers or unions of these, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) })
}

/// Bytes that a start takes from the heap, without those of a spec that has to be built.
const HEAP: usize = 256 << 10;

/// Takes memory that a short-lived program is about to use in one call: page by page it comes at the price of a fault each,
/// which are a good part of a start. Without effect before Linux 5.14 and where the allocator is not glibc's.
pub fn take_memory() {
    #[cfg(target_env = "gnu")]
    {
        let mut heap = Vec::<u8>::new();
        // SAFETY: the limits say only from where the allocator takes memory and when it gives it back. The advice is on memory
        // that is ours, and changes nothing of what it holds.
        unsafe {
            let more = (2 * HEAP) as c_int;
            libc::mallopt(libc::M_MMAP_THRESHOLD, more);
            libc::mallopt(libc::M_TRIM_THRESHOLD, more);
            heap.reserve_exact(HEAP);
            let start = heap.as_mut_ptr();
            let aligned = start.byte_add(start.align_offset(4096));
            libc::madvise(aligned.cast(), HEAP - 4096, libc::MADV_POPULATE_WRITE);
        }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

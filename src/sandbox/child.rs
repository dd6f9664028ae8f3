//! The first process of the sandbox: sets everything up, starts the program, and stays as its `init`.
//!
//! It is a copy of mlbuild in memory, so it must not be looked at from inside: it is not dumpable, which keeps `/proc/1` of
//! the sandbox shut.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, fchdir, kill_process_group, pivot_root,
    set_dumpable_behavior, set_parent_process_death_signal, setsid, umask, wait,
};
use rustix::system::sethostname;
use rustix::thread::{CapabilitySet, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGSTOP};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::channel::{Channel, Order, Said};
use super::confine::capabilities;
use super::error::{Doing, FAILED, SandboxError};
use super::kernel::{self, Alone};
use super::program;
use super::root;
use super::steps;
use super::terminal;
use crate::launch::{Identity, Launch, NetworkMode};

/// Goes on as the sandbox's first process, to its end. Nothing that the copied stack holds is dropped: it belongs to the
/// other process.
pub fn run(alone: Alone, launch: &Launch, channel: Channel) -> ! {
    let result = catch_unwind(AssertUnwindSafe(|| set_up(alone, launch, &channel)));
    match result.unwrap_or(Err(SandboxError::Vanished)) {
        Ok(status) => kernel::end(status),
        Err(error) => kernel::end(tell(&channel, &error)),
    }
}

/// Says it to the supervisor, with its causes; the status to end with.
fn tell(channel: &Channel, error: &SandboxError) -> u8 {
    let status = error.status();
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        message += &format!(": {error}");
        cause = error.source();
    }
    let _ = channel.say(&Said::Failed { status, message });
    status
}

/// Nothing of this process's memory can be looked at from inside.
fn not_dumpable() -> Result<(), SandboxError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "cannot hide this process".into())
}

fn set_up(alone: Alone, launch: &Launch, channel: &Channel) -> Result<u8, SandboxError> {
    // A session of its own: the caller's terminal signals the supervisor only.
    let _ = setsid();
    die_with_the_supervisor(channel)?;
    match channel.next_order() {
        Ok(Some(Order::Go)) => {}
        _ => return Err(SandboxError::Vanished),
    }
    forget_the_arguments().doing(|| "cannot hide the command line".into())?;
    not_dumpable()?;
    become_root(launch)?;
    let _ = umask(Mode::empty());
    kernel::unshare_cgroup().doing(|| "cannot make a cgroup namespace".into())?;

    root::make_private()?;
    let layers = root::open_layers(&launch.root)?;
    let upper = root::open_upper(&launch.root.upper)?;
    let sources = steps::take_sources(&launch.steps)?;
    let root = root::mount_root(layers, upper)?;
    steps::carry_out(&root, &launch.steps, sources)?;
    let terminal = match launch.process.terminal {
        true => {
            let (master, slave) = terminal::open(&root)?;
            channel.say(&Said::Terminal(master)).doing(|| "cannot hand the terminal over".into())?;
            Some(slave)
        }
        false => None,
    };
    make_work_directory(&root, launch)?;
    if launch.root.read_only {
        let attributes = kernel::Attributes { read_only: true, ..kernel::Attributes::default() };
        kernel::restrict(root.as_fd(), attributes, false)
            .doing(|| "cannot make the root read-only".into())?;
    }
    enter(&root)?;
    drop(root);
    sethostname(launch.process.hostname.as_bytes()).doing(|| "cannot set the host name".into())?;
    if launch.network.mode != NetworkMode::Host {
        let socket =
            socket(AddressFamily::INET, SocketType::DGRAM, None).doing(|| "cannot open a socket".into())?;
        kernel::loopback_up(socket.as_fd()).doing(|| "cannot bring the loopback interface up".into())?;
    }
    die_with_the_supervisor(channel)?;
    if launch.process.init {
        supervise(alone, launch, channel, terminal)
    } else {
        program::start(launch, channel, terminal.as_ref().map(AsFd::as_fd)).map(|never| match never {})
    }
}

/// Empties what `/proc/1/cmdline` shows, in this copy of the process: paths of the host and values of variables are in it.
fn forget_the_arguments() -> io::Result<()> {
    // The name in the second field may have spaces and parentheses; the fields 48 and 49 are where the arguments lie.
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap_or_default().1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok());
    let (Some(start), Some(end)) = (field(48), field(49)) else {
        return Err(io::Error::other("/proc/self/stat does not say where it is"));
    };
    let zeros = vec![0; end.saturating_sub(start) as usize];
    OpenOptions::new().write(true).open("/proc/self/mem")?.write_all_at(&zeros, start)
}

/// Also when that is killed. Credentials that change take this setting away, so it is made again after. Who is not there any
/// more when it is made is not missed by the kernel, but on the channel.
pub(super) fn die_with_the_supervisor(channel: &Channel) -> Result<(), SandboxError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "cannot bind this process to its parent".into())?;
    if channel.is_cut() { Err(SandboxError::Vanished) } else { Ok(()) }
}

/// Owner of what is made inside. For an ordinary user that is the process's user, who this process is already: it has all
/// rights in its namespace anyway.
fn become_root(launch: &Launch) -> Result<(), SandboxError> {
    match launch.identity {
        Identity::Single { .. } | Identity::Subordinate { .. } => Ok(()),
        Identity::Same | Identity::Part { .. } => change_ids(0, 0, &[]),
    }
}

/// For good: real, effective and saved.
pub(super) fn change_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<(), SandboxError> {
    let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
    let groups: Vec<_> = groups.iter().map(|group| rustix::process::Gid::from_raw(*group)).collect();
    set_thread_groups(&groups).doing(|| "cannot set the supplementary groups".into())?;
    set_thread_res_gid(gid, gid, gid).doing(|| format!("cannot become group {gid}"))?;
    set_thread_res_uid(uid, uid, uid).doing(|| format!("cannot become user {uid}"))
}

/// As docker does, with the image's root as owner, unless it is there.
fn make_work_directory(root: &OwnedFd, launch: &Launch) -> Result<(), SandboxError> {
    let path = &launch.process.directory;
    match steps::open_inside(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => steps::make_directory(root, path, 0o755).map(drop),
        // What else is wrong is said when the program is to start there.
        _ => Ok(()),
    }
}

/// Makes the root `/` and forgets all of the host's file system.
fn enter(root: &OwnedFd) -> Result<(), SandboxError> {
    fchdir(root).doing(|| "cannot enter the root".into())?;
    pivot_root(".", ".").doing(|| "cannot make the root file system `/`".into())?;
    unmount(".", UnmountFlags::DETACH).doing(|| "cannot unmount the host's file systems".into())?;
    rustix::process::chdir("/").doing(|| "cannot enter `/`".into())
}

/// Starts the program as a child and does what an init has to: reaps whatever it is left with, passes signals on, ends with
/// the program's exit status. Its end is that of all processes of the sandbox.
fn supervise(
    alone: Alone,
    launch: &Launch,
    channel: &Channel,
    terminal: Option<OwnedFd>,
) -> Result<u8, SandboxError> {
    let setting_up = || "cannot wait for the program".to_owned();
    // Also what mlbuild itself was started with.
    let keep: Vec<_> =
        [Some(channel.as_fd()), terminal.as_ref().map(AsFd::as_fd)].into_iter().flatten().collect();
    kernel::close_all_but(&keep).doing(|| "cannot close what is open".into())?;
    let (reader, writer) = UnixStream::pair().doing(setting_up)?;
    reader.set_nonblocking(true).doing(setting_up)?;
    let mut ended = SignalDelivery::with_pipe(reader, writer, SignalOnly, [SIGCHLD]).doing(setting_up)?;
    let tty = terminal.as_ref().map(AsFd::as_fd);
    let mut become_the_program = || {
        let Err(error) = program::start(launch, channel, tty);
        tell(channel, &error)
    };
    let program = kernel::start(alone, &mut become_the_program).doing(|| "cannot start a process".into())?;
    // The program's credentials may have changed this, as the memory was its own, too.
    not_dumpable()?;
    drop(terminal);
    // Nothing is mounted or made from here on.
    // Signals go to whatever user the program has become.
    capabilities::keep_for_oneself(CapabilitySet::KILL).doing(|| "cannot give up capabilities".into())?;
    die_with_the_supervisor(channel)?;
    loop {
        let mut ready = [PollFd::new(&channel, PollFlags::IN), PollFd::new(ended.get_read(), PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).doing(setting_up),
        }
        let told = !ready[0].revents().is_empty();
        if told {
            match channel.next_order() {
                // As a terminal stops and continues all that belongs to a job.
                Ok(Some(Order::Signal(SIGSTOP))) => drop(kill_process_group(Pid::INIT, Signal::STOP)),
                Ok(Some(Order::Signal(SIGCONT))) => drop(kill_process_group(Pid::INIT, Signal::CONT)),
                Ok(Some(Order::Signal(signal))) => drop(kernel::send_signal(program, signal)),
                Ok(Some(Order::Go)) => {}
                // The supervisor is gone; with this process all others end.
                Ok(None) | Err(_) => return Ok(FAILED),
            }
        }
        ended.pending().for_each(drop);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == program {
                let status = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => code as u8,
                    (None, Some(signal)) => 128 + signal as u8,
                    (None, None) => FAILED,
                };
                end_all();
                let _ = channel.say(&Said::Ended(status));
                return Ok(status);
            }
        }
    }
}

/// All processes of the sandbox but this one. `kill(-1)` means those that the caller can see: its namespace's.
fn end_all() {
    if kill_process_group(Pid::INIT, Signal::KILL).is_ok() {
        while let Ok(Some(_)) = wait(WaitOptions::empty()) {}
    }
}

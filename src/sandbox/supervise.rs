//! The supervisor: makes the sandbox's first process, gives it what it cannot take itself, and then waits, passing on
//! signals and what is typed, until it ends.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use signal_hook::consts::{SIGCONT, SIGSTOP, SIGTERM, SIGTSTP, SIGWINCH};

use super::cgroup::{self, Group};
use super::channel::{Channel, Order, Said};
use super::error::{Doing, SandboxError};
use super::held::Held;
use super::kernel::{self, Alone, Child, Forked, Namespaces};
use super::signals::{self, Caught};
use super::terminal::Connection;
use super::{child, identity, ports};
use crate::launch::{Launch, NetworkMode, Upper};

/// What a run that takes too long ends with, as timeout(1) does.
const TIMED_OUT: u8 = 124;
/// After this time whoever was asked to end is killed.
const GRACE: Duration = Duration::from_secs(10);
/// Where a run was to end: how long nobody may read what is left of its output.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Names of first processes that wait for whoever has lost its parent; so do those that take such processes to themselves
/// (PR_SET_CHILD_SUBREAPER).
const INITS: [&str; 12] = [
    "systemd",
    "init",
    "tini",
    "dumb-init",
    "docker-init",
    "catatonit",
    "conmon",
    "s6-svscan",
    "runit",
    "openrc-init",
    "dinit",
    "shepherd",
];

/// What a caller is told while the sandbox runs.
pub trait Listener {
    /// Something that the user should know.
    fn warning(&mut self, text: &str);
    /// A port is open: address of the host, port of the sandbox.
    fn published(&mut self, address: std::net::SocketAddr, port: u16);
}

/// Runs it and returns the exit status: the program's own, or 128 and the number of the signal that ended it.
///
/// The process must have one thread.
pub fn run(launch: &Launch, listener: &mut dyn Listener) -> Result<u8, SandboxError> {
    let alone = Alone::check().doing(|| "cannot start a sandbox".into())?;
    // Until all that is made here is gone.
    let mut signals = Caught::new().doing(|| "cannot catch signals".into())?;
    let mut held = Held::new().doing(|| "cannot hold signals back".into())?;
    for warning in &launch.warnings {
        listener.warning(warning);
    }
    let stop = signals::number(&launch.process.stop_signal);
    if stop.is_none() && launch.process.timeout.is_some() {
        listener.warning(&format!(
            "the image's stop signal `{}` is not known; --timeout sends SIGTERM",
            launch.process.stop_signal
        ));
    }
    let group = match launch.limits.any() {
        true => {
            let facts = cgroup::Facts::gather().doing(|| "cannot read control groups".into())?;
            let group = cgroup::create(&facts, &launch.limits, &launch.process.hostname)?;
            group.warnings().iter().for_each(|warning| listener.warning(warning));
            Some(group)
        }
        false => None,
    };
    let publishing = ports::listen(&launch.network.publish)?;
    let (channel, other) = Channel::pair().doing(|| "cannot make a pair of sockets".into())?;
    let namespaces = Namespaces {
        user: true,
        mount: true,
        pid: true,
        network: launch.network.mode != NetworkMode::Host,
        ipc: true,
        uts: true,
    };
    let directory = group.as_ref().and_then(Group::dir_fd);
    let child = match kernel::fork(alone, namespaces, directory).doing(cannot_start)? {
        Forked::Child => {
            drop((channel, publishing));
            child::run(alone, launch, other)
        }
        Forked::Parent(child) => child,
    };
    drop(other);
    // From here on the sandbox ends when this function does.
    let mut sandbox = Sandbox { child, channel, ended: false };
    if let Some(group) = group.as_ref().filter(|_| directory.is_none()) {
        group.add(sandbox.child.pid)?;
    }
    identity::map(sandbox.child.pid, &launch.identity)?;
    let _proxy = ports::forward(alone, publishing, &sandbox.child, &launch.network, listener)?;
    if let Some(signal) = signals.ending() {
        drop(signals.take());
        return Ok(128 + signal as u8);
    }
    let _ = sandbox.channel.order(&Order::Go);
    let status = sandbox.wait(launch, stop.unwrap_or(SIGTERM), &mut signals, &mut held, listener);
    if let Some(killed) = group.as_ref().map(Group::oom_kills).filter(|killed| *killed > 0) {
        listener.warning(&format!(
            "--memory: the kernel killed {killed} processes of the run, which needed more"
        ));
    }
    status
}

fn cannot_start() -> String {
    "cannot make namespaces (`mlbuild doctor` says what this host lacks)".to_owned()
}

struct Sandbox {
    child: Child,
    channel: Channel,
    ended: bool,
}

impl Sandbox {
    fn wait(
        &mut self,
        launch: &Launch,
        stop: i32,
        signals: &mut Caught,
        held: &mut Held,
        listener: &mut dyn Listener,
    ) -> Result<u8, SandboxError> {
        let doing = || "cannot wait for the sandbox".to_owned();
        let mut terminal: Option<Connection> = None;
        let mut failed = None;
        let mut deadline = Deadline::new(launch.process.timeout);
        let mut speaks = true;
        let mut over = None;
        // Signals on their way to the program, and whether one of them asks it to end.
        let (mut on_the_way, mut asked) = (Vec::new(), false);
        let waits_for_the_end = launch.limits.any() || matches!(launch.root.upper, Upper::Directory { .. });
        loop {
            for signal in signals.take() {
                match (signal, &terminal) {
                    (SIGWINCH, Some(terminal)) => terminal.resize(),
                    (SIGWINCH, None) if launch.process.terminal => {}
                    _ => on_the_way.push(signal),
                }
                asked |= signals::asks_to_end(signal);
            }
            for signal in held.take() {
                match signal {
                    SIGTSTP => self.pause(launch),
                    _ => on_the_way.push(signal),
                }
            }
            match deadline.due() {
                Some(Due::Ask) => on_the_way.push(stop),
                Some(Due::Kill) => drop(pidfd_send_signal(&self.child.pidfd, Signal::KILL)),
                None => {}
            }
            // A process that is to become the program has no use for them before; then it says nothing more.
            if launch.process.init || !speaks {
                on_the_way.drain(..).for_each(|signal| self.send(launch, signal));
            }
            let (mut ended, mut said) = (false, false);
            {
                let mut waits = vec![
                    PollFd::new(&self.child.pidfd, PollFlags::IN),
                    PollFd::new(&*signals, PollFlags::IN),
                ];
                if speaks {
                    waits.push(PollFd::new(&self.channel, PollFlags::IN));
                }
                waits.push(PollFd::new(&*held, PollFlags::IN));
                if let Some(terminal) = &terminal {
                    waits.extend(terminal.interests());
                }
                match poll(&mut waits, deadline.left().and_then(timespec).as_ref()) {
                    Ok(_) => {
                        ended = !waits[0].revents().is_empty();
                        said = speaks && !waits[2].revents().is_empty();
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error).doing(doing),
                }
            }
            if said {
                match self.channel.hear().doing(doing)? {
                    Some(Said::Terminal(master)) => {
                        terminal = Some(connect(master, launch.process.interactive)?);
                    }
                    Some(Said::Warning(text)) => listener.warning(&text),
                    Some(Said::Failed { status, message }) => {
                        failed = failed.or(Some(SandboxError::Inside { message, status }));
                    }
                    // What the kernel still has to take down nobody can see, unless something is to be used again.
                    Some(Said::Ended(status)) if !waits_for_the_end => over = Some(status),
                    Some(Said::Ended(_)) => {}
                    None => speaks = false,
                }
            }
            if let Some(terminal) = &mut terminal {
                terminal.pump().doing(|| "cannot copy what the sandbox writes".into())?;
            }
            if (ended && !said) || over.is_some() {
                break;
            }
        }
        if let Some(mut terminal) = terminal {
            let _ = show_the_rest(&mut terminal, signals, &mut deadline, asked);
        }
        let status = match over {
            Some(status) => {
                self.leave().doing(doing)?;
                status
            }
            None => self.reap().doing(doing)?,
        };
        match failed {
            Some(error) => Err(error),
            None if deadline.passed => Ok(TIMED_OUT),
            None => Ok(status),
        }
    }

    /// By its first process, or to the program itself where that is the first.
    fn send(&self, launch: &Launch, signal: i32) {
        if launch.process.init {
            let _ = self.channel.order(&Order::Signal(signal));
        } else {
            // Its number is its own until it is waited for.
            let _ = kernel::send_signal(self.child.pid, signal);
        }
    }

    /// What Ctrl-Z in a shell means: the sandbox's processes stop, and then this one, if its shell can continue it; else it
    /// goes on at once. When it goes on, so do they.
    fn pause(&self, launch: &Launch) {
        self.send(launch, SIGSTOP);
        kernel::suffer(SIGTSTP);
        self.send(launch, SIGCONT);
    }

    /// The first process has said its last and ends, which takes a millisecond or two: mounts and memory are taken down. An
    /// init takes it away then; others that are the first process of a system (a program in a container) never do, and
    /// it would stay for good.
    fn leave(&mut self) -> io::Result<()> {
        let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
        if INITS.contains(&first.trim_end()) {
            self.ended = true;
            return Ok(());
        }
        self.reap().map(drop)
    }

    fn reap(&mut self) -> io::Result<u8> {
        loop {
            match waitid(WaitId::Pid(self.child.pid), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    self.ended = true;
                    return Ok(match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => code as u8,
                        (None, Some(signal)) => 128 + signal as u8,
                        (None, None) => super::error::FAILED,
                    });
                }
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !self.ended {
            let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
            let _ = self.reap();
        }
    }
}

fn connect(master: OwnedFd, interactive: bool) -> Result<Connection, SandboxError> {
    Connection::new(master, interactive).doing(|| "cannot connect the terminal".into())
}

/// What the program has written and nobody has seen. A program waits for whoever reads its output, however long that
/// takes, and so does this; but not where the run was to end.
fn show_the_rest(
    terminal: &mut Connection,
    signals: &mut Caught,
    deadline: &mut Deadline,
    asked: bool,
) -> io::Result<()> {
    terminal.end();
    let patience = (asked || deadline.passed).then_some(LAST_WORDS);
    while !terminal.show_all()? {
        let mut waits = vec![PollFd::new(&*signals, PollFlags::IN)];
        waits.extend(terminal.unseen());
        let left = patience.into_iter().chain(deadline.left()).min();
        match poll(&mut waits, left.and_then(timespec).as_ref()) {
            Ok(0) => {
                let _ = deadline.due();
                break;
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if signals.ending().is_some() || deadline.due().is_some() {
            break;
        }
    }
    Ok(())
}

/// None if that is longer than the kernel counts.
fn timespec(time: Duration) -> Option<Timespec> {
    Timespec::try_from(time).ok()
}

/// When a run has had its time.
struct Deadline {
    next: Option<Instant>,
    passed: bool,
}

enum Due {
    Ask,
    Kill,
}

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "the user's limit of time")]
    fn new(seconds: Option<u64>) -> Self {
        // Later than the clock goes is never.
        let next = seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        Self { next, passed: false }
    }

    #[expect(clippy::disallowed_methods, reason = "the user's limit of time")]
    fn left(&self) -> Option<Duration> {
        let left = self.next?.saturating_duration_since(Instant::now());
        // A millisecond more, so as not to wake up just before.
        Some(left.saturating_add(Duration::from_millis(1)))
    }

    #[expect(clippy::disallowed_methods, reason = "the user's limit of time")]
    fn due(&mut self) -> Option<Due> {
        let next = self.next?;
        let now = Instant::now();
        if now < next {
            return None;
        }
        let due = if self.passed { Due::Kill } else { Due::Ask };
        self.next = (!self.passed).then(|| now + GRACE);
        self.passed = true;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_comes_twice_or_never() {
        let mut now = Deadline::new(Some(0));
        assert!(matches!(now.due(), Some(Due::Ask)) && now.passed);
        assert!(now.due().is_none() && now.left().is_some_and(|left| left > GRACE / 2));
        for seconds in [None, Some(u64::MAX)] {
            let mut never = Deadline::new(seconds);
            assert!(never.due().is_none() && !never.passed && never.left().is_none());
        }
    }
}

//! The way in and out of a network of its own: published ports, through a process of ours that stands in both networks,
//! and outgoing traffic through pasta.
//!
//! The listening sockets are made in the host's network; the process that accepts on them then joins the sandbox's
//! network, so that it can connect to its loopback. Sockets stay in the network in which they were made.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, pidfd_send_signal, set_parent_process_death_signal,
    setsid, waitid,
};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::error::{Doing, SandboxError};
use super::kernel::{self, Alone, Child, Forked, Namespaces};
use super::supervise::Listener;
use crate::launch::{Network, Publish};

/// Connections at a time; more are closed at once.
const MOST: usize = 1024;
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes of the stack of a thread that copies.
const STACK: usize = 64 * 1024;
/// How long pasta may take to set the network up.
const PASTA: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Listens on the host.
pub fn listen(ports: &[Publish]) -> Result<Vec<(TcpListener, u16)>, SandboxError> {
    let listen = |port: &Publish| {
        let address = SocketAddr::new(port.address, port.host);
        let listener = TcpListener::bind(address).doing(|| format!("cannot publish a port on {address}"))?;
        Ok((listener, port.sandbox))
    };
    ports.iter().map(listen).collect()
}

/// Processes that end with the run.
pub struct Proxy(Vec<Child>);

impl Proxy {
    /// The only one, to be ended by somebody else.
    fn keep(mut self) -> Child {
        self.0.pop().expect("it was made with one")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for child in &self.0 {
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            let _ = waitid(WaitId::Pid(child.pid), WaitIdOptions::EXITED);
        }
    }
}

/// Connects the sandbox's network with the host's.
pub fn forward(
    alone: Alone,
    ports: Vec<(TcpListener, u16)>,
    sandbox: &Child,
    network: &Network,
    listener: &mut dyn Listener,
) -> Result<Proxy, SandboxError> {
    let mut proxy = Proxy(Vec::new());
    if let Some(pasta) = &network.pasta {
        match start_pasta(alone, pasta, sandbox) {
            Ok(child) => proxy.0.push(child),
            Err(error) => {
                let why = std::error::Error::source(&error).map(|why| format!(": {why}")).unwrap_or_default();
                listener.warning(&format!("nothing outside can be reached: {error}{why}"));
            }
        }
    }
    if ports.is_empty() {
        return Ok(proxy);
    }
    for (port, inside) in &ports {
        let address = port.local_addr().doing(|| "cannot tell the address of a port".into())?;
        listener.published(address, *inside);
    }
    let (ready, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "cannot make a pipe".into())?;
    let parent = getpid();
    match kernel::fork(alone, Namespaces::default(), None).doing(|| "cannot start a process".into())? {
        Forked::Parent(child) => {
            proxy.0.push(child);
            drop(tell);
            // Before the sandbox's first process shuts itself off, which it does when it is told to go on.
            match rustix::io::read(&ready, &mut [0]) {
                Ok(1) => Ok(proxy),
                _ => Err(io::Error::other("its process ended"))
                    .doing(|| "cannot publish ports from the sandbox's network".into()),
            }
        }
        Forked::Child => {
            drop(ready);
            let _ = setsid();
            let both = ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK;
            if move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&sandbox.pidfd), both).is_err() {
                kernel::end(super::error::FAILED);
            }
            // Joining a user namespace has changed the credentials, which takes such a setting away.
            end_with(parent);
            let _ = rustix::io::write(&tell, &[1]);
            drop(tell);
            serve(ports);
            kernel::end(0)
        }
    }
}

/// Binds this process to the one that made it, also where that is gone already.
fn end_with(parent: Pid) {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if getppid() != Some(parent) {
        kernel::end(super::error::FAILED);
    }
}

/// Until the end of the process.
fn serve(ports: Vec<(TcpListener, u16)>) {
    let connections = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for (listener, port) in &ports {
            let connections = Arc::clone(&connections);
            threads.spawn(move || {
                for outer in listener.incoming() {
                    // Out of descriptors, or a connection that was cut before it was accepted.
                    let Ok(outer) = outer else {
                        std::thread::sleep(Duration::from_millis(10));
                        continue;
                    };
                    let Some(counted) = Counted::new(&connections) else { continue };
                    let port = *port;
                    let connection = move || {
                        let _ = join(&outer, port);
                        drop(counted);
                    };
                    // Closes it where the system has no thread left.
                    let _ = std::thread::Builder::new().stack_size(STACK).spawn(connection);
                }
            });
        }
    });
}

/// One of the connections there are, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// None if there are too many.
    fn new(connections: &Arc<AtomicUsize>) -> Option<Self> {
        let before = connections.fetch_add(1, Ordering::Relaxed);
        let counted = Self(Arc::clone(connections));
        (before < MOST).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection, both ways, each until its side has said all.
fn join(outer: &TcpStream, port: u16) -> io::Result<()> {
    let inner = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), CONNECT)
        .or_else(|_| TcpStream::connect_timeout(&(Ipv6Addr::LOCALHOST, port).into(), CONNECT))?;
    outer.set_nodelay(true)?;
    inner.set_nodelay(true)?;
    std::thread::scope(|threads| {
        std::thread::Builder::new().stack_size(STACK).spawn_scoped(threads, || copy(outer, &inner))?;
        copy(&inner, outer);
        Ok(())
    })
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    // Between sockets std splices, without a buffer of ours.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.flush();
    let _ = to.shutdown(Shutdown::Write);
}

/// pasta connects the network with the host's as an ordinary process would be. It is a child that ends with this process,
/// and says through a pipe when all is set up: there it writes what would be its PID file.
fn start_pasta(alone: Alone, pasta: &Path, sandbox: &Child) -> Result<Child, SandboxError> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "cannot make a pipe".into());
    let ((ready, tell), (errors, complain)) = (pipe()?, pipe()?);
    let parent = getpid();
    match kernel::fork(alone, Namespaces::default(), None).doing(|| "cannot start a process".into())? {
        Forked::Parent(child) => {
            drop((tell, complain));
            let child = Proxy(vec![child]);
            if !is_readable(&ready, &PASTA) {
                return Err(io::Error::from(io::ErrorKind::TimedOut))
                    .doing(|| "pasta does not get the sandbox's network ready".into());
            }
            if rustix::io::read(&ready, &mut [0; 32]).is_ok_and(|length| length > 0) {
                return Ok(child.keep());
            }
            let mut said = String::new();
            let _ = File::from(errors).take(4096).read_to_string(&mut said);
            let said = said.trim().lines().last().unwrap_or_default().to_owned();
            Err(io::Error::other(said)).doing(|| "pasta cannot connect the sandbox's network".into())
        }
        Forked::Child => {
            let _ = setsid();
            end_with(parent);
            #[expect(
                clippy::disallowed_methods,
                reason = "a program of the host, with nothing of the image's"
            )]
            let mut command = std::process::Command::new(pasta);
            if rustix::process::geteuid().is_root() {
                // Or it becomes nobody, who may not join the sandbox's namespaces.
                command.args(["--runas", "0"]);
            }
            // Neither ports nor the gateway lead to this host's loopback.
            command.args(["--foreground", "--config-net", "--quiet", "--no-map-gw"]);
            command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
            let _ = rustix::io::fcntl_setfd(&tell, FdFlags::empty());
            command.arg("--pid").arg(format!("/proc/self/fd/{}", tell.as_raw_fd()));
            command.arg(sandbox.pid.as_raw_nonzero().to_string());
            command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(complain));
            let _ = command.exec();
            kernel::end(super::error::FAILED)
        }
    }
}

/// Within that time; a signal begins it anew.
fn is_readable(pipe: &OwnedFd, within: &Timespec) -> bool {
    loop {
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(within)) {
            Err(Errno::INTR) => {}
            ready => return ready == Ok(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_end_or_never_begin_are_counted_down() {
        let connections = Arc::new(AtomicUsize::new(0));
        let mut open: Vec<_> = (0..MOST).filter_map(|_| Counted::new(&connections)).collect();
        assert_eq!(open.len(), MOST);
        for _ in 0..3 {
            assert!(Counted::new(&connections).is_none());
        }
        // As when a thread cannot be started: what it was to do is dropped.
        let counted = open.pop();
        drop(move || drop(counted));
        assert_eq!(connections.load(Ordering::Relaxed), MOST - 1);
        assert!(Counted::new(&connections).is_some());
    }
}

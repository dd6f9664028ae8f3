//! The way in and out of a network of its own: published ports, through a process of ours that stands in both networks,
//! and outgoing traffic through pasta.
//!
//! The listening sockets are made in the host's network; the process that accepts on them then joins the sandbox's
//! network, so that it can connect to its loopback. Sockets stay in the network in which they were made.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::pipe::PipeFlags;
use rustix::process::{
    Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_parent_process_death_signal, setsid, waitid,
};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::error::{Doing, SandboxError};
use super::kernel::{self, Alone, Child, Forked, Namespaces};
use super::supervise::Listener;
use crate::launch::{Network, Publish};

/// Connections at a time; more are closed at once.
const MOST: usize = 1024;
const CONNECT: Duration = Duration::from_secs(5);

/// Listens on the host.
pub fn listen(ports: &[Publish]) -> Result<Vec<(TcpListener, u16)>, SandboxError> {
    let listen = |port: &Publish| {
        let address = SocketAddr::new(port.address, port.host);
        let listener = TcpListener::bind(address).doing(|| format!("cannot publish a port on {address}"))?;
        Ok((listener, port.sandbox))
    };
    ports.iter().map(listen).collect()
}

/// Ends with the run.
pub struct Proxy(Option<Child>);

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
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
    if let Some(pasta) = &network.pasta {
        start_pasta(pasta, sandbox)?;
    }
    if ports.is_empty() {
        return Ok(Proxy(None));
    }
    for (port, inside) in &ports {
        let address = port.local_addr().doing(|| "cannot tell the address of a port".into())?;
        listener.published(address, *inside);
    }
    let (ready, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing(|| "cannot make a pipe".into())?;
    match kernel::fork(alone, Namespaces::default(), None).doing(|| "cannot start a process".into())? {
        Forked::Parent(child) => {
            let proxy = Proxy(Some(child));
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
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            let both = ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK;
            if move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&sandbox.pidfd), both).is_err() {
                kernel::end(super::error::FAILED);
            }
            // Joining a user namespace has changed the credentials.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            let _ = rustix::io::write(&tell, &[1]);
            drop(tell);
            serve(ports);
            kernel::end(0)
        }
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
                    if connections.fetch_add(1, Ordering::Relaxed) >= MOST {
                        connections.fetch_sub(1, Ordering::Relaxed);
                        continue;
                    }
                    let (connections, port) = (Arc::clone(&connections), *port);
                    let connection = move || {
                        let _ = join(&outer, port);
                        connections.fetch_sub(1, Ordering::Relaxed);
                    };
                    let _ = std::thread::Builder::new().stack_size(64 * 1024).spawn(connection);
                }
            });
        }
    });
}

/// One connection, both ways, each until its side has said all.
fn join(outer: &TcpStream, port: u16) -> io::Result<()> {
    let inner = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), CONNECT)
        .or_else(|_| TcpStream::connect_timeout(&(Ipv6Addr::LOCALHOST, port).into(), CONNECT))?;
    outer.set_nodelay(true)?;
    inner.set_nodelay(true)?;
    std::thread::scope(|threads| {
        threads.spawn(|| copy(outer, &inner));
        copy(&inner, outer);
    });
    Ok(())
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    // Between sockets std splices, without a buffer of ours.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.flush();
    let _ = to.shutdown(Shutdown::Write);
}

/// pasta connects the network with the host's as an ordinary process would be; it goes to the background once all is set
/// up, and ends with the network.
fn start_pasta(pasta: &Path, sandbox: &Child) -> Result<(), SandboxError> {
    #[expect(clippy::disallowed_methods, reason = "a program of the host, with nothing of the image's")]
    let mut command = std::process::Command::new(pasta);
    let none = ["--config-net", "--quiet", "-t", "none", "-u", "none", "-T", "none", "-U", "none"];
    command.args(none).arg(sandbox.pid.as_raw_nonzero().to_string());
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let output = command.output().doing(|| format!("cannot run {}", pasta.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(said)).doing(|| "pasta cannot connect the sandbox's network".into())
}

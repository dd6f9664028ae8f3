//! The three networks, and published ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Host;
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip, skip};

const SERVER: &str = "import socket
s = socket.create_server(('127.0.0.1', 8000))
while True:
    c, _ = s.accept()
    data = b''
    while part := c.recv(65536): data += part
    c.sendall(b'%d bytes\\n' % len(data) + data[:10]); c.close()";

#[test]
fn a_published_port() {
    for host in or_skip!("published ports", Host::both("hello")) {
        // A port that is free now.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let publish = format!("{port}:8000");
        let mut command = host.run(&["-p", &publish], &["python", "-c", SERVER]).command();
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        let answer = loop {
            assert!(start.elapsed() < Duration::from_secs(30), "no answer on port {port}");
            if let Some(answer) = ask(port) {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(answer.starts_with("3000000 bytes\naaaaaaaaaa"), "{answer}");
        // Many at once.
        std::thread::scope(|threads| {
            for _ in 0..20 {
                threads.spawn(|| assert!(ask(port).is_some()));
            }
        });
        // Taken.
        let second = host.python(&["-p", &publish], "").expect(125);
        assert!(second.stderr().contains("cannot publish a port"), "{}", second.stderr());
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143));
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "the port stays taken");
    }
}

fn ask(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&vec![b'a'; 3_000_000]).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

#[test]
fn no_port_leads_into_no_network() {
    for host in or_skip!("published ports", Host::both("hello")) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let publish = format!("{port}:8000");
        let options = ["run", "--network", "none", "-p", &publish, "--entrypoint", "python", &host.image];
        let program = "import sys; print('ready'); sys.stdout.flush(); sys.stdin.read()";
        let run = Run::new(&host.program).args(&options).args(&["-i", "--", "-c", program]);
        let mut command = host.launched(run).command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody listens on {port}");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains("--publish does nothing with --network none") && !said.contains("is at"),
            "{said}"
        );
    }
}

#[test]
fn which_networks_are_seen() {
    let names = "import os; print(sorted(os.listdir('/sys/class/net')))";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect =
        format!("import socket; socket.create_connection(('127.0.0.1', {port}), 5); print('connected')");
    for host in or_skip!("networks", Host::both("hello")) {
        assert_eq!(host.python(&["--network", "none"], names).expect(0).stdout().trim(), "['lo']");
        for network in ["none", "private"] {
            let _ = host.python(&["--network", network], &connect).expect(1);
        }
        let out = host.python(&["--network", "host"], &connect).expect(0);
        assert_eq!(out.stdout().trim(), "connected");
        let own = "import socket; s = socket.create_server(('127.0.0.1', 1)); socket.create_connection(('127.0.0.1', 1)); print('up')";
        // Low ports belong to the owner of the network.
        let own = own.replace(", 1)", ", 8001)");
        assert_eq!(host.python(&["--network", "none"], &own).expect(0).stdout().trim(), "up");
    }
}

/// pasta needs a tun device that the user may open; without one the run says so and goes on without the outside.
#[test]
fn the_world_through_pasta() {
    let pasta = or_skip!("pasta", crate::support::tool::tool("pasta"));
    let _ = pasta;
    // An address of this host beside the loopback, at which it is reached from outside.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Ok(own) = probe else { return skip("pasta", &Skip("this host has no way out".to_owned())) };
    for host in or_skip!("pasta", Host::both("hello")) {
        let names = "import os; print(sorted(os.listdir('/sys/class/net')))";
        // Not quiet, so that a failure is told.
        let run = host
            .mlbuild(&["run", "--entrypoint", "python", &host.image.clone(), "--", "-c", names])
            .run()
            .expect(0);
        let outside = run.stdout().trim() != "['lo']";
        let tun = std::fs::metadata("/dev/net/tun").is_ok_and(|tun| {
            use std::os::unix::fs::PermissionsExt;
            host.who == super::Who::Root || tun.permissions().mode() & 0o006 == 0o006
        });
        assert!(outside || !tun, "pasta has not connected it: {}", run.stderr());
        // Its loopback stays the sandbox's own.
        let listener = TcpListener::bind((own.ip(), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let local = format!("import socket; socket.create_connection(('127.0.0.1', {port}), 3)");
        let _ = host.python(&[], &local).expect(1);
    }
}

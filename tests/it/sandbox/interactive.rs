//! A terminal: Python driven through a pseudo-terminal, as a person would.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{Host, Who};
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip, skip};

/// A person's terminal, with a program in it.
struct Person {
    master: File,
    slave: OwnedFd,
    child: Child,
    seen: String,
}

impl Person {
    /// `mlbuild run`, or without a command `mlbuild shell`.
    fn new(host: &Host, options: &[&str], command: &[&str]) -> Self {
        Self::with_typed(host, options, command, "")
    }

    /// Who has typed before the program is there.
    fn with_typed(host: &Host, options: &[&str], command: &[&str], typed: &str) -> Self {
        let run = match command {
            [] => host.mlbuild(&[&["shell"], options, &[&host.image]].concat()),
            command => host.run(options, command),
        };
        Self::at(run, typed)
    }

    /// Any command.
    fn at(run: Run, typed: &str) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        tcsetwinsize(&master, size(33, 101)).unwrap();
        let mut master = File::from(master);
        master.write_all(typed.as_bytes()).unwrap();
        let stream = || Stdio::from(slave.try_clone().unwrap());
        let mut command = run.env("TERM", "dumb").command();
        let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        Self { master, slave, child, seen: String::new() }
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the text and returns what came before it.
    #[track_caller]
    fn expects(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no {text:?} in {:?}", self.seen);
            let mut wait = [rustix::event::PollFd::new(&self.master, rustix::event::PollFlags::IN)];
            let soon = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if rustix::event::poll(&mut wait, Some(&soon)) == Ok(1) {
                let mut buffer = [0; 4096];
                let length = self.master.read(&mut buffer).unwrap();
                self.seen += &String::from_utf8_lossy(&buffer[..length]);
            }
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn python_in_a_terminal() {
    for host in or_skip!("a terminal", Host::both("hello")) {
        let mut person = Person::new(&host, &["-it"], &["python", "-q"]);
        let _ = person.expects(">>> ");
        assert!(person.is_raw());
        person.types(
            "import os, sys; print(os.get_terminal_size(), sys.stdin.isatty(), os.ttyname(0), 'end')\n",
        );
        // Once typed, once printed.
        let _ = person.expects("'end')");
        let printed = person.expects("end");
        assert!(printed.contains("columns=101, lines=33) True /dev/pts/0"), "{printed}");
        // The window changes. Not before the prompt: readline reads the size and sets it again when it begins a line, and
        // takes one back that was set in between. Nor is anything typed before, while it changes modes.
        let _ = person.expects(">>> ");
        tcsetwinsize(&person.master, size(20, 50)).unwrap();
        kill_process(Pid::from_child(&person.child), Signal::WINCH).unwrap();
        // As soon as mlbuild has come to it.
        person.types("while os.get_terminal_size().columns != 50: os.sched_yield()\n\nprint(5 * 70)\n");
        let _ = person.expects("350");
        let _ = person.expects(">>> ");
        // Ctrl-C goes to the program, not to mlbuild.
        person.types("import time; time.sleep(100)\n");
        std::thread::sleep(Duration::from_millis(300));
        person.types("\u{3}");
        let _ = person.expects("KeyboardInterrupt");
        let _ = person.expects(">>> ");
        // The program's terminal is its own: job control works.
        person.types("print(os.tcgetpgrp(0) == os.getpgrp(), os.getsid(0) == os.getpid())\n");
        let _ = person.expects("True True");
        let _ = person.expects(">>> ");
        person.types("\u{4}");
        assert_eq!(person.child.wait().unwrap().code(), Some(0));
        assert!(!person.is_raw(), "the terminal stays raw");
    }
}

/// Without a word about it, where there is a terminal.
#[test]
fn a_shell_in_a_terminal() {
    for host in or_skip!("a terminal", Host::both("hello")) {
        let mut person = Person::new(&host, &["--network", "none"], &[]);
        let _ = person.expects(">>> ");
        assert!(person.is_raw());
        person.types("import os; print(os.ttyname(0), os.getcwd(), 'end')\n");
        let _ = person.expects("'end')");
        assert!(person.expects("end").contains("/dev/pts/0"));
        let _ = person.expects(">>> ");
        person.types("\u{4}");
        assert_eq!(status(&mut person.child), Some(0));
    }
}

/// Whoever connects the two terminals comes to it late: the program has asked by then.
#[test]
fn the_window_has_its_size_from_the_start() {
    or_skip!("a slow supervisor", crate::faults::strace::available());
    for host in or_skip!("a terminal", Host::both("hello")) {
        let program = "import os; print(os.get_terminal_size(), 'end')";
        // The supervisor alone receives messages with descriptors.
        let late = "inject=recvmsg:delay_enter=2000000";
        let strace =
            ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=recvmsg", "-e", late];
        let run = host.run(&["-t"], &["python", "-c", program]).under(&strace);
        let mut person = Person::at(run, "");
        let printed = person.expects("end");
        assert!(printed.contains("columns=101, lines=33"), "{:?}: {printed}", host.who);
        let _ = person.child.wait().unwrap();
    }
}

#[test]
fn the_terminal_is_as_before_however_a_run_ends() {
    for host in or_skip!("a terminal", Host::both("hello")) {
        for signal in [Signal::TERM, Signal::HUP] {
            let mut person = Person::new(&host, &["-it"], &["python", "-q"]);
            let _ = person.expects(">>> ");
            kill_process(Pid::from_child(&person.child), signal).unwrap();
            let _ = person.child.wait().unwrap();
            assert!(!person.is_raw(), "{signal:?}");
        }
        // Output only: what is typed stays.
        let mut person = Person::new(&host, &["-t"], &["python", "-c", "print('x' * 3, open('/dev/tty'))"]);
        let _ = person.expects("xxx");
        assert_eq!(person.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn what_is_typed_early_is_not_lost() {
    for host in or_skip!("a terminal", Host::both("hello")) {
        // No prompt of a line editor, which would change the terminal's mode while it is typed to.
        let program = ["python", "-c", "print('got ' + input().upper())"];
        let mut person = Person::with_typed(&host, &["-it"], &program, "early\n");
        let _ = person.expects("got EARLY");
        assert_eq!(status(&mut person.child), Some(0));
    }
}

/// Within ten seconds.
#[track_caller]
fn status(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if start.elapsed() > Duration::from_secs(10) {
            let _ = child.kill();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Into a pipe and into a terminal that nobody reads.
#[test]
fn a_program_that_writes_without_pause_can_be_stopped() {
    let command = ["python", "-c", "import os\nwhile True: os.write(1, b'y' * 4096)"];
    for host in or_skip!("a terminal", Host::both("hello")) {
        let spawn = |options: &[&str]| {
            let mut command = host.run(options, &command).command();
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let (mut limited, mut child) = (spawn(&["-t", "--timeout", "1"]), spawn(&["-t"]));
        std::thread::sleep(Duration::from_secs(1));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!((status(&mut limited), status(&mut child)), (Some(124), Some(143)));
        if host.who == Who::Root {
            let mut person = Person::new(&host, &["-t", "--timeout", "1"], &command);
            assert_eq!(status(&mut person.child), Some(124));
        }
    }
}

#[test]
fn a_slow_reader_misses_nothing() {
    let program = "import os, tty
tty.setraw(1)
data = bytes(range(256)) * 1200
while data: data = data[os.write(1, data):]";
    for host in or_skip!("a terminal", Host::both("hello")) {
        let mut command = host.run(&["-t"], &["python", "-c", program]).command();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        let (mut seen, mut buffer) = (Vec::<u8>::new(), [0; 4096]);
        std::thread::sleep(Duration::from_secs(1));
        loop {
            match output.read(&mut buffer).unwrap() {
                0 => break,
                length => seen.extend(&buffer[..length]),
            }
            if seen.len() % (1 << 16) < buffer.len() {
                // Longer than anybody who was to end would be waited for.
                std::thread::sleep(Duration::from_millis(if seen.len() > 200_000 { 1200 } else { 10 }));
            }
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(seen.len(), 256 * 1200);
        assert!(seen.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }
}

/// `| head -1`: the terminal is hung up, and the program ends as it does then.
#[test]
fn an_output_that_is_closed_hangs_the_terminal_up() {
    let writes = "while True: os.write(1, b'y' * 4096)";
    for host in or_skip!("a closed output", Host::both("hello")) {
        for (program, expected) in [
            // SIGHUP, as from any terminal.
            (writes.to_owned(), 129),
            (
                "import signal; signal.signal(signal.SIGHUP, lambda *_: os._exit(7)); ".to_owned()
                    + "time.sleep(.3)\n"
                    + writes,
                7,
            ),
            // Who does not care fails to write.
            (
                format!(
                    "signal.signal(signal.SIGHUP, signal.SIG_IGN)\ntry:\n    {writes}\nexcept OSError as e: os._exit(e.errno)"
                ),
                5,
            ),
            // And has its time to end.
            (
                "signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.write(1, b'y'); time.sleep(.5); os.write(1, b'y'); time.sleep(.5); os._exit(3)"
                    .to_owned(),
                3,
            ),
        ] {
            let program = format!("import os, signal, time\n{program}");
            let mut command = host.run(&["-t"], &["python", "-c", &program]).command();
            let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = child.spawn().unwrap();
            let mut output = child.stdout.take().unwrap();
            output.read_exact(&mut [0]).unwrap();
            drop(output);
            assert_eq!(status(&mut child), Some(expected), "{:?}: {program}", host.who);
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert_eq!(said, "", "{:?}: {program}", host.who);
        }
    }
}

/// A megabyte out, while nobody types.
#[test]
fn much_output() {
    for host in or_skip!("a terminal", Host::both("hello")) {
        let program = "for i in range(20000): print('%050d' % i)\nprint('done')";
        let mut person = Person::new(&host, &["-t"], &["python", "-c", program]);
        let printed = person.expects("done");
        assert!(printed.len() > 1_000_000 && printed.contains(&format!("{:050}", 19_999)));
        assert_eq!(person.child.wait().unwrap().code(), Some(0));
    }
}

/// What is typed for others (TIOCSTI) goes to the shell that waits behind: shut, in a terminal of the sandbox's and in
/// the caller's own.
#[test]
fn nobody_types_into_the_terminal() {
    // By the C library: Python's own call takes no more than 32 bits.
    let program = "import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
typed = ctypes.create_string_buffer(b'x')
for name, request in (('TIOCSTI', 0x5412), ('high bits', 0x5412 | 1 << 32), ('TIOCLINUX', 0x541c)):
    result = libc.ioctl(1, ctypes.c_ulong(request), typed)
    print(name, 'open' if result == 0 else errno.errorcode[ctypes.get_errno()])
print('end')";
    for host in or_skip!("a terminal", Host::both("hello")) {
        for options in [&["-it"][..], &["-t"], &["-i"]] {
            let mut person = Person::new(&host, options, &["python", "-c", program]);
            let printed = person.expects("end");
            for name in ["TIOCSTI", "TIOCLINUX", "high bits"] {
                assert!(printed.contains(&format!("{name} EPERM")), "{options:?}: {printed}");
            }
            let _ = person.child.wait().unwrap();
        }
        // Without a sandbox, in a terminal of one's own: open, and what only consoles have comes as far as the terminal.
        let legacy = std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").unwrap_or("1".to_owned());
        if host.who == Who::User && legacy.trim() == "0" {
            skip("TIOCSTI without a sandbox", &Skip("the kernel has it for root only".to_owned()));
            continue;
        }
        let run = host.launched(Run::new("setsid").args(&["-c", "-w", "python3", "-c", program]));
        let mut person = Person::at(run, "");
        let printed = person.expects("end");
        for told in ["TIOCSTI open", "high bits open", "TIOCLINUX ENOTTY"] {
            assert!(printed.contains(told), "without a sandbox: {printed}");
        }
        let _ = person.child.wait().unwrap();
    }
}

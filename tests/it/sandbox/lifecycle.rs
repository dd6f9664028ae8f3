//! Nothing is left when a run ends, however it ends.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::left_behind;
use super::{Host, Who};
use crate::support::skip::or_skip;

/// A process on this host whose command line holds this text.
fn is_running(mark: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // The sandbox's own supervisor names it too, but not as the last argument of Python.
        line.starts_with(b"python") && line.windows(mark.len()).any(|part| part == mark.as_bytes())
    })
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} does not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A sandbox with two processes, one of which ignores the signals that ask to end.
fn start(host: &Host, mark: &str, options: &[&str]) -> Child {
    let program = format!(
        "import os, signal, time
if os.fork() == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)
while True: time.sleep(1) # {mark}"
    );
    let mut command = host.run(options, &["python", "-c", &program]).command();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut said).unwrap();
    assert!(&said == b"ready\n" && is_running(mark));
    child
}

#[test]
fn signals_are_passed_on_and_nothing_stays() {
    for host in or_skip!("signals", Host::both("hello")) {
        for (number, signal) in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT].into_iter().enumerate()
        {
            let mark = format!("mark-{}-{number}-{:?}", std::process::id(), host.who);
            let mut child = start(&host, &mark, &[]);
            kill_process(Pid::from_child(&child), signal).unwrap();
            let status = child.wait().unwrap();
            // Python makes an exception of SIGINT, and of its own accord ends by the signal.
            assert_eq!(status.code(), Some(128 + signal.as_raw()), "{signal:?}");
            wait_until("the end of all processes", || !is_running(&mark));
        }
    }
}

/// By nohup the run outlives its terminal; the program begins with nothing ignored, so that its image's stop signal stops it.
#[test]
fn what_the_caller_ignores_stays_ignored() {
    let program = "import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status') if line.startswith('Sig'))
print(status['SigIgn'].strip(), flush=True)
signal.pause()";
    for host in or_skip!("ignored signals", Host::both("hello")) {
        for init in [&["--init=false"][..], &[]] {
            let run = host.run(init, &["python", "-I", "-c", program]);
            let mut command = run.under(&["env", "--ignore-signal=HUP,INT,USR1"]).command();
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let mut said = [0; 17];
            child.stdout.take().unwrap().read_exact(&mut said).unwrap();
            for signal in [Signal::HUP, Signal::INT, Signal::USR1] {
                kill_process(Pid::from_child(&child), signal).unwrap();
            }
            std::thread::sleep(Duration::from_millis(100));
            assert!(child.try_wait().unwrap().is_none(), "a signal that is ignored has an effect");
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(143));
            // Python itself ignores SIGPIPE and SIGXFSZ.
            assert_eq!(str::from_utf8(&said).unwrap(), "0000000001001000\n");
        }
    }
}

/// While pasta sets the network up, which takes long here: the program never starts, and nothing stays.
#[test]
fn a_signal_before_the_start_is_not_lost() {
    let pasta = "#!/bin/sh
: > $1/started
while [ ! -e $1/go ]; do sleep .02; done
for argument; do [ \"$before\" = --pid ] && pid=$argument; before=$argument; done
echo 1 > $pid
exec sleep 60";
    for host in or_skip!("signals", Host::both("hello")) {
        let directory = host.directory.path().display().to_string();
        let path = host.write("pasta", &pasta.replace("$1", &directory));
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        let name = format!("early-{}-{:?}", std::process::id(), host.who);
        let options = ["--memory", "64m", "--best-effort-limits", "--name", &name];
        let run = host.run(&options, &["python", "-c", "print('started')"]);
        let places = format!("{directory}:/usr/bin:/bin");
        let child = run.env("PATH", places).command().stdout(Stdio::piped()).spawn().unwrap();
        wait_until("pasta", || host.path("started").exists());
        assert!(host.who == Who::User || left_behind(&name).len() == 1);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        // Not at once: what is half done is undone first.
        std::thread::sleep(Duration::from_millis(100));
        let _ = host.write("go", "");
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(143), &b""[..]));
        assert!(left_behind(&name).is_empty());
    }
}

/// While the control group is taken down, which cannot be as somebody else's process is in it.
#[test]
fn a_signal_after_the_end_is_not_lost() {
    let host = or_skip!("signals", Host::new(Who::Root, "hello"));
    let name = format!("late-{}", std::process::id());
    let mut child = start(&host, &name, &["--memory", "64m", "--name", &name]);
    let below = left_behind(&name)[0].join("below");
    fs::create_dir(&below).unwrap();
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(below.join("cgroup.procs"), other.id().to_string()).unwrap();
    let process = Pid::from_child(&child);
    kill_process(process, Signal::TERM).unwrap();
    wait_until("the end of all processes", || !is_running(&name));
    std::thread::sleep(Duration::from_millis(100));
    kill_process(process, Signal::INT).unwrap();
    let signal = child.wait().unwrap().signal();
    other.kill().unwrap();
    let _ = other.wait().unwrap();
    fs::remove_dir(&below).unwrap();
    fs::remove_dir(below.parent().unwrap()).unwrap();
    assert_eq!(signal, Some(2));
}

/// The other mlbuild, which unpacks the layers, is killed; or this one is asked to end meanwhile.
#[test]
fn preparing_is_stopped() {
    for who in [Who::Root, Who::User] {
        let host = or_skip!("preparing", Host::alone(who, "hello"));
        for killed in [true, false] {
            let mut command = host.run(&[], &["python", "-c", "print('started')"]).command();
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let children = format!("/proc/{0}/task/{0}/children", child.id());
            let other = loop {
                let text = fs::read_to_string(&children).unwrap();
                if let Some(first) = text.split_whitespace().next() {
                    break Pid::from_raw(first.parse().unwrap()).unwrap();
                }
                assert!(child.try_wait().unwrap().is_none(), "it ends without having anything prepared");
                std::thread::sleep(Duration::from_millis(1));
            };
            match killed {
                true => kill_process(other, Signal::KILL).unwrap(),
                false => kill_process(Pid::from_child(&child), Signal::TERM).unwrap(),
            }
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(if killed { 125 } else { 143 }), "{said}");
            assert_eq!(output.stdout, b"");
            assert_eq!(killed, said.contains("ended by signal 9") && said.contains("hint"), "{said}");
        }
    }
}

#[test]
fn a_killed_supervisor_takes_the_sandbox_along() {
    for host in or_skip!("kill -9", Host::both("hello")) {
        for options in [&[][..], &["--init=false"]] {
            let mark = format!("mark-{}-killed-{:?}-{}", std::process::id(), host.who, options.len());
            let mut child = start(&host, &mark, options);
            kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9));
            wait_until("the end of all processes", || !is_running(&mark));
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains("overlay /tmp"), "{mounts}");
    }
}

/// Without the small first process nothing but this ties a program to its supervisor.
#[test]
fn a_program_cannot_outlive_its_supervisor() {
    for host in or_skip!("PR_SET_PDEATHSIG", Host::both("hello")) {
        let program = "import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.prctl(1, 0), ctypes.get_errno(), libc.prctl(4, 1))";
        assert_eq!(host.python(&["--init=false"], program).expect(0).stdout().trim(), "-1 1 0");
        assert_eq!(host.python(&[], program).expect(0).stdout().trim(), "0 0 0");
    }
}

#[test]
fn orphans_are_reaped() {
    for host in or_skip!("orphans", Host::both("hello")) {
        // Twenty grandchildren whose parent is gone end; none stays as a zombie.
        let program = "import os, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0: os._exit(0)
        os._exit(0)
    os.wait()
time.sleep(.3)
states = [open(f'/proc/{p}/stat').read().rsplit(')')[1].split()[0] for p in os.listdir('/proc') if p.isdigit() and p != '1']
print(states)";
        assert_eq!(host.python(&[], program).expect(0).stdout().trim(), "['R']");
    }
}

/// As root and as others, the supervisor's own status.
#[test]
fn the_program_does_not_see_who_started_it() {
    for host in or_skip!("the first process", Host::both("hello")) {
        let program = "import os
print(open('/proc/1/cmdline', 'rb').read().strip(b'\\0'))
for name in ('environ', 'fd', 'exe', 'root', 'maps', 'mem', 'cwd'):
    for use in (os.listdir, os.readlink, lambda p: open(p, 'rb').read(10)):
        try: seen = use('/proc/1/' + name)
        except OSError: continue
        # Root may count the descriptors of the first process: three streams, its channel, and how it hears of children.
        if name != 'fd' or len(seen) > 7: print(name, seen)
for fd in range(10):
    try: print(os.readlink(f'/proc/1/fd/{fd}'))
    except OSError: pass
print(os.getpid(), os.getppid())";
        let out = host.python(&[], program).expect(0).stdout();
        assert_eq!(out.trim(), "b''\n2 1", "{out}");
    }
}

//! Whatever signal somebody sends to a run is for its program; and Ctrl-Z stops both.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use super::{Host, Who};
use crate::support::mlbuild::Run;
use crate::support::skip::or_skip;

/// A run of this Python program, in a process group of its own as a shell makes one, after its first line.
fn start(host: &Host, options: &[&str], program: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = host.run(options, &["python", "-uc", program]).command();
    let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(line(&mut output), "ready");
    (child, output)
}

fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn send(child: &Child, signal: i32) {
    let pid = child.id().to_string();
    let _ = Run::new("sh").args(&["-c", &format!("kill -{signal} {pid}")]).ok();
}

#[test]
fn every_signal_is_the_programs() {
    // HUP, INT, QUIT, ABRT, USR1, USR2, ALRM, TERM, STKFLT, CONT, XCPU, XFSZ, VTALRM, PROF, WINCH, IO, PWR, real-time ones.
    const ALL: [i32; 21] = [1, 2, 3, 6, 10, 12, 14, 15, 16, 18, 24, 25, 26, 27, 28, 29, 30, 34, 37, 50, 64];
    let program = format!(
        "import signal
for number in {ALL:?}: signal.signal(number, lambda number, frame: print(number))
print('ready')
while True: signal.pause()"
    );
    for (who, option) in [(Who::User, "--init"), (Who::Root, "--init=false")] {
        let host = or_skip!("signals", Host::new(who, "hello"));
        let (mut child, mut output) = start(&host, &[option], &program);
        for signal in ALL {
            send(&child, signal);
            assert_eq!(line(&mut output), signal.to_string(), "{option}");
        }
        send(&child, 9);
        let _ = child.wait().unwrap();
    }
}

/// The program's end is the run's: as an exit status, not by the signal itself.
#[test]
fn a_program_that_knows_no_signal_ends_by_it() {
    let host = or_skip!("signals", Host::new(Who::User, "hello"));
    for signal in [10, 12, 14, 27, 29, 37] {
        let program = "import signal; print('ready'); signal.pause()";
        let (mut child, _output) = start(&host, &[], program);
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(128 + signal));
    }
}

/// State and number of the processes of this host whose last argument has the text.
fn states(mark: &str) -> Vec<char> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let marked = processes.filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"python") && line.windows(mark.len()).any(|part| part == mark.as_bytes())
    });
    marked.filter_map(|process| state(&process.path().join("stat"))).collect()
}

fn state(stat: &std::path::Path) -> Option<char> {
    fs::read_to_string(stat).ok()?.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn ctrl_z_stops_the_program_and_the_run() {
    for (who, options, processes) in [(Who::User, &[][..], 2), (Who::Root, &["--init=false"], 1)] {
        let host = or_skip!("Ctrl-Z", Host::new(who, "hello"));
        let mark = format!("mark-{}-{who:?}", std::process::id());
        let fork = if processes == 2 { "os.fork()" } else { "" };
        let program = format!(
            "import os, time\n{fork}\nif os.getpid() < 3: print('ready')\nwhile True: time.sleep(.05) # {mark}"
        );
        let (mut child, _output) = start(&host, options, &program);
        let run = format!("/proc/{}/stat", child.id());
        let all = || -> Vec<char> { states(&mark).into_iter().chain(state(run.as_ref())).collect() };
        let becomes = |what: &str, is_so: &dyn Fn(char) -> bool| {
            let start = Instant::now();
            while all().len() != processes + 1 || !all().into_iter().all(is_so) {
                assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", all());
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        for _ in 0..2 {
            send(&child, 20);
            becomes("stopped", &|state| state == 'T');
            send(&child, 18);
            becomes("going on", &|state| state != 'T');
        }
        send(&child, 15);
        // As the first process Python has no default for it.
        if processes == 1 {
            send(&child, 9);
        }
        let _ = child.wait().unwrap();
    }
}

//! Faults at the N-th system call of each thread, by `strace -e inject`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::mlbuild::{Finished, Run};
use crate::support::skip::Skip;
use crate::support::tool::tool;

/// strace works here: it is installed, and processes may be traced.
pub fn available() -> Result<(), Skip> {
    tool("strace")?;
    let probe = Run::new("strace").args(&["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "true"]).run();
    match probe.status() {
        0 => Ok(()),
        _ => Err(Skip(format!("strace does not work here: {}", probe.stderr().trim()))),
    }
}

/// What was done to the run.
pub struct Injected {
    pub finished: Finished,
    /// Calls that failed, as strace writes them, with the paths of their descriptors.
    pub calls: Vec<String>,
    /// The signal came, if the fault is one.
    pub signalled: bool,
}

/// Runs it with a fault at the N-th call of each thread to each of `calls`: `signal=KILL` or `error=EIO`. `N+` is that and
/// all that follow.
///
/// Signals do without `--seccomp-bpf`: with it strace 6.1 sends none but at the first call.
pub fn inject(run: Run, log: &Path, calls: &str, fault: &str, at: &str) -> Injected {
    let injection = format!("inject={calls}:{fault}:when={at}");
    let signal = fault.strip_prefix("signal=");
    let filter = if signal.is_none() { &["--seccomp-bpf"][..] } else { &[] };
    let finished = traced(run, log, calls, &[filter, &["-e", &injection]].concat()).run();
    let text = fs::read_to_string(log).unwrap_or_default();
    let calls = text.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect();
    let came = |name: &str| {
        [format!("--- SIG{name} "), format!("killed by SIG{name} ")].iter().any(|said| text.contains(said))
    };
    Injected { finished, calls, signalled: signal.is_some_and(came) }
}

/// The most calls that a thread makes to one of `calls`.
pub fn most(run: Run, log: &Path, calls: &str) -> usize {
    let _ = traced(run, log, calls, &["--seccomp-bpf"]).ok();
    let text = fs::read_to_string(log).unwrap();
    let mut counts = BTreeMap::<(&str, &str), usize>::new();
    for line in text.lines().filter(|line| !line.contains("resumed>")) {
        if let Some((thread, call)) = line.split_once(' ')
            && let Some((name, _)) = call.trim_start().split_once('(')
        {
            *counts.entry((thread, name)).or_default() += 1;
        }
    }
    counts.into_values().max().unwrap_or(0)
}

fn traced(run: Run, log: &Path, calls: &str, more: &[&str]) -> Run {
    let trace = format!("trace={calls}");
    let log = log.to_str().unwrap();
    let options = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", log, "-e", &trace];
    run.under(&[&options[..], more].concat())
}

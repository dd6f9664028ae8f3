//! What a run leaves to others, however it ends: no process, also none that only its parent could take away; no mount, no
//! port, no control group.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use super::cgroup::left_behind;
use super::{Host, Who};
use crate::support::skip::or_skip;
use crate::support::tool::tool;

/// Children of a process that has one thread that starts any, and whether each is only waiting to be waited for.
fn children(pid: u32) -> Vec<(u32, bool)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut children = Vec::new();
    for task in tasks {
        let text = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        children.extend(text.split_whitespace().map(|number| number.parse::<u32>().unwrap()));
    }
    let is_zombie = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    children.into_iter().map(|pid| (pid, is_zombie(pid))).collect()
}

/// A first process that waits for nobody but the command it starts, as a program in a container; its name is the first
/// argument. Says who else is left.
const FIRST: &str = "import os, subprocess, sys
open('/proc/self/comm', 'w').write(sys.argv[1])
status = subprocess.call(sys.argv[2:])
def state(pid): return open(f'/proc/{pid}/stat').read().rsplit(') ')[1].split()[0]
left = [state(pid) for pid in os.listdir('/proc') if pid.isdigit() and pid != '1']
print('status', status, 'left', left)";

#[test]
fn a_run_leaves_no_zombie_to_who_takes_none_away() {
    or_skip!("zombies", tool("unshare"));
    for host in or_skip!("zombies", Host::both("hello")) {
        let left = |first: &str, options: &[&str], program: &str| {
            let run = host.run(options, &["python", "-c", program]);
            let around = ["unshare", "-p", "-f", "--mount-proc", "python3", "-c", FIRST, first];
            run.under(&around).ok().stdout()
        };
        let none = "status 0 left []\n";
        for options in
            [&[][..], &["--network", "none"], &["-t"], &["--init=false"], &["-p", "127.0.0.1:0:80"]]
        {
            for program in ["pass", "import os, time; os.fork() or time.sleep(9)"] {
                assert_eq!(left("program", options, program), none, "{:?} {options:?} {program}", host.who);
            }
        }
        // Where somebody does, nobody waits: it may still be there, and is taken away.
        let said = left("tini", &["--network", "none"], "pass");
        assert!(said.starts_with("status 0 left ["), "{said}");
    }
}

/// Whoever is killed can tidy nothing up: all that there is ends by itself. The test adopts whatever loses its parent, so
/// that it knows all of them.
#[test]
fn a_killed_run_leaves_nothing() {
    let hosts = or_skip!("kill -9", Host::both("hello"));
    set_child_subreaper(Some(getpid())).unwrap();
    for host in hosts {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let publish = format!("127.0.0.1:{port}:8000");
        let name = format!("left-{}", std::process::id());
        let marked = host.path("marked");
        fs::create_dir(&marked).unwrap();
        host.give(&marked);
        let limits = ["--memory", "64m", "--name", &name];
        // Options, and how many processes there are beside mlbuild at least.
        let mut cases: Vec<(Vec<&str>, usize)> = vec![
            (vec![], 1),
            (vec!["--init=false"], 1),
            (vec!["-p", &publish], 2),
            (vec!["-t"], 1),
            (vec!["--keep", "--name", &name], 1),
            (vec!["-t", "-p", &publish, "--keep", "--name", &name], 2),
        ];
        if host.who == Who::Root {
            cases.push((limits.to_vec(), 1));
            cases.push(([&limits[..], &["-t", "-p", &publish, "--keep"]].concat(), 2));
        }
        for (options, others) in cases {
            let what = format!("{:?} {options:?}", host.who);
            let options = [&["-v", "./marked:/marked"], &options[..]].concat();
            let program = "import os, signal, time
if os.fork() == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN); print('ready', flush=True)
while True: time.sleep(1)";
            let mut command = host.run(&options, &["python", "-c", program]).command();
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let mut said = [0; 5];
            child.stdout.take().unwrap().read_exact(&mut said).unwrap();
            assert!(&said == b"ready" && children(child.id()).len() >= others, "{what}");
            assert!(mounted(marked.to_str().unwrap()) > 0, "{what}: the control");
            let limited = options.contains(&"--memory");
            assert_eq!(left_behind(&name).len(), usize::from(limited), "{what}");
            kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9), "{what}");
            // All that it has started is ours now, and ends.
            let start = Instant::now();
            loop {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) | Err(Errno::INTR) => {}
                    Err(Errno::CHILD) => break,
                    Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                    Err(error) => panic!("{error}"),
                }
                let left = children(std::process::id());
                assert!(
                    start.elapsed() < Duration::from_secs(20),
                    "{what}: left, and whether dead: {left:?}"
                );
            }
            assert_eq!(mounted(marked.to_str().unwrap()), 0, "{what}");
            assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "{what}: the port stays taken");
            if limited {
                // A directory that nobody is in any more: the next run with limits takes it away.
                let procs = fs::read_to_string(left_behind(&name)[0].join("cgroup.procs")).unwrap();
                assert_eq!(procs, "", "{what}");
                let _ = host.run(&["--memory", "64m"], &["python", "-c", ""]).ok();
                assert!(left_behind(&name).is_empty(), "{what}");
            }
        }
        // What was kept can be used again.
        let _ = host.run(&["--keep", "--name", &name], &["python", "-c", ""]).ok();
        fs::remove_dir_all(host.store.join("runs").join(&name)).unwrap();
    }
}

/// Processes of this host that see something mounted from there.
fn mounted(path: &str) -> usize {
    let sees = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("mountinfo")).is_ok_and(|mounts| mounts.contains(path))
    };
    fs::read_dir("/proc").unwrap().flatten().filter(sees).count()
}

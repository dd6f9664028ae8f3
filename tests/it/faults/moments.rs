//! `kill -9`, SIGINT and SIGTERM: at random moments, before every call that makes or removes something in the store or the
//! layout, and, by strace, before those that are made without the C library.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::inject::Injector;
use super::{Place, Random, Small, each, names, strace, times};
use crate::support::mlbuild::Project;
use crate::support::skip::or_skip;

const SIGNALS: [Signal; 3] = [Signal::KILL, Signal::INT, Signal::TERM];
/// How long a stopped run may take.
const STOPPED: Duration = Duration::from_secs(5);
/// All that changes what lies on the disk.
const CHANGES: &str = "create,write,fsync,fchmod,ftruncate,mkdir,unlink,rename,close";
/// What a build that unwinds has to clean up after.
const FILES: &str = "create,write,fsync,mkdir,unlink,rename";

/// Ended by `signal` itself or with its exit status: then, but for `kill -9`, there is no temporary file.
#[track_caller]
fn check_stopped(place: &Place<'_>, signal: Signal, code: Option<i32>, what: &str) {
    if signal == Signal::KILL {
        assert!(code.is_none_or(|code| code == 0), "{what}: {code:?}");
        return;
    }
    assert!(matches!(code, None | Some(0)) || code == Some(128 + signal.as_raw()), "{what}: {code:?}");
    let left = names(&place.store().join("tmp"));
    assert!(left.is_empty(), "{what} left {left:?}");
    let left: Vec<_> =
        names(&place.layout()).into_iter().filter(|name| name.starts_with(".mlbuild-")).collect();
    assert!(left.is_empty(), "{what} left {left:?}");
}

#[test]
fn at_random_moments() {
    let small = Small::new();
    let mut random = Random::new(1);
    let mut items = Vec::new();
    for signal in SIGNALS {
        for _ in 0..times(200) {
            items.push((signal, random.below(1000)));
        }
    }
    // How long a build takes, in microseconds, as far as is known: other work on the machine changes it.
    let length = AtomicU64::new(60_000);
    let stopped = AtomicUsize::new(0);
    each(&items, |&(signal, part)| {
        let place = small.place();
        let moment = Duration::from_micros(length.load(Ordering::Relaxed) * part / 1000);
        let what = format!("{signal:?} after {moment:?}");
        let start = Instant::now();
        let mut child = place.build().command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while start.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(500));
        }
        let sent = Instant::now();
        let ended = child.try_wait().unwrap().is_some();
        if !ended {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        let status = child.wait().unwrap();
        assert!(sent.elapsed() < STOPPED, "{what}: it took {:?} to stop", sent.elapsed());
        if ended {
            length.store(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        } else if part > 900 {
            length.fetch_add(length.load(Ordering::Relaxed) / 4, Ordering::Relaxed);
        }
        stopped.fetch_add(usize::from(!status.success()), Ordering::Relaxed);
        assert!(status.signal().is_none_or(|by| by == signal.as_raw()), "{what}: {status}");
        check_stopped(&place, signal, status.code(), &what);
        place.check(&what);
    });
    let stopped = stopped.into_inner();
    assert!(stopped > items.len() / 4, "only {stopped} of {} builds were still running", items.len());
}

#[test]
fn before_every_change() {
    let injector = or_skip!("signals before every change", Injector::new());
    let small = Small::new();
    let mut items = Vec::new();
    for (signal, changes) in [(Signal::KILL, CHANGES), (Signal::INT, FILES), (Signal::TERM, FILES)] {
        let count = injector.count(&small.place(), changes);
        assert!(count > 50, "{count}");
        items.extend((1..=count).map(|at| (signal, changes, at)));
    }
    each(&items, |&(signal, changes, at)| {
        let place = small.place();
        let fault = format!("-{}", signal.as_raw());
        let (finished, call) = injector.build(&place, changes, &fault, at);
        let what = format!("{signal:?} at change {at}, {call:?}");
        let code = Some(finished.status()).filter(|code| *code >= 0);
        check_stopped(&place, signal, code, &what);
        place.check(&what);
    });
}

/// What a killed build has left beside its lock and its archive is no part of the next image.
#[test]
fn in_a_project_that_is_copied() {
    let injector = or_skip!("a project that is copied", Injector::new());
    let new = || {
        let project = Project::new("[base]\nscratch = true\n[[copy]]\nfrom = \".\"\nto = \"/app/\"\n");
        project.write("main.py", "import alpha\n");
        project
    };
    let build = ["build", "-o", "oci-archive:image.tar"];
    let digest = new().mlbuild(&build).ok().digest();
    let items: Vec<usize> = (1..120).collect();
    let killed = AtomicUsize::new(0);
    each(&items, |&at| {
        let project = new();
        let under = project.home().parent().unwrap().to_owned();
        let (finished, call) = injector.run(&under, project.mlbuild(&build), CHANGES, "-9", at);
        killed.fetch_add(usize::from(finished.status() != 0), Ordering::Relaxed);
        assert_eq!(project.mlbuild(&build).ok().digest(), digest, "killed at {call:?}");
        let names = names(&project.path());
        assert_eq!(names, ["image.tar", "main.py", "mlbuild.lock", "mlbuild.toml"], "killed at {call:?}");
    });
    assert!(killed.into_inner() > 40);
}

#[test]
fn before_everything_that_a_prune_removes() {
    let injector = or_skip!("signals while pruning", Injector::new());
    let small = Small::new();
    let items: Vec<_> = (1..40).flat_map(|at| [(at, true), (at, false)]).collect();
    let killed = AtomicUsize::new(0);
    each(&items, |&(at, all)| {
        let place = small.place();
        let _ = place.build().ok();
        // What nothing needs: another image without a name that is known, and its layer.
        let forgotten = small.mlbuild(&place.store(), &["build", "-t", "registry.example/forgotten"]);
        let _ = forgotten.ok();
        let prune: &[&str] = if all { &["cache", "prune", "--all"] } else { &["cache", "prune"] };
        let run = small.mlbuild(&place.store(), prune);
        let (finished, call) = injector.run(place.directory.path(), run, "unlink", "-9", at);
        killed.fetch_add(usize::from(finished.status() != 0), Ordering::Relaxed);
        let what = format!("prune (all: {all}) killed at {call:?}");
        let _ = small.mlbuild(&place.store(), &["images"]).ok();
        let _ = small.mlbuild(&place.store(), &["cache", "verify"]).ok();
        place.check(&what);
    });
    assert!(killed.into_inner() > 20);
}

#[test]
fn before_every_rename_link_sync_and_unlink() {
    or_skip!("signals at system calls", strace::available());
    let small = Small::new();
    let calls = "rename,renameat,renameat2,link,linkat,unlink,unlinkat,fsync,fdatasync";
    let place = small.place();
    let most = strace::most(place.build(), &place.path("log"), calls);
    assert!(most > 5, "{most}");
    let names = SIGNALS.into_iter().zip(["KILL", "INT", "TERM"]);
    let items: Vec<_> =
        names.flat_map(|(signal, name)| (1..=most).map(move |at| (signal, name, at))).collect();
    let signalled = AtomicUsize::new(0);
    each(&items, |&(signal, name, at)| {
        let place = small.place();
        let fault = format!("signal={name}");
        let injected = strace::inject(place.build(), &place.path("log"), calls, &fault, &at.to_string());
        let what = format!("{signal:?} at call {at} of a thread");
        signalled.fetch_add(usize::from(injected.signalled), Ordering::Relaxed);
        let code = Some(injected.finished.status()).filter(|code| *code >= 0);
        check_stopped(&place, signal, code, &what);
        place.check(&what);
    });
    let signalled = signalled.into_inner();
    println!("{signalled} of {} signals came", items.len());
    // Which thread makes which call is another in each run.
    assert!(signalled > items.len() / 4, "only {signalled} of {} signals came", items.len());
}

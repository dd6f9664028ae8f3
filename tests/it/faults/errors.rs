//! A full disk, a failing one, too few descriptors and short writes, at every call there is.
//!
//! A short write cannot be had from strace, which would skip the call and lie about its result: the injected library writes
//! the first half of the bytes and says so, as a system may at any time.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::inject::Injector;
use super::{Place, Small, each, strace};
use crate::support::mlbuild::Finished;
use crate::support::skip::or_skip;

pub const ENOSPC: (i32, &str) = (28, "No space left on device");
pub const EIO: (i32, &str) = (5, "Input/output error");
pub const EMFILE: (i32, &str) = (24, "Too many open files");

/// The build has made the image in spite of the fault, or says which file was to blame and why.
#[track_caller]
fn check_said(place: &Place<'_>, finished: &Finished, why: &str, what: &str) {
    let said = finished.stderr();
    match finished.status() {
        0 => assert_eq!(finished.digest(), place.small.digest, "{what}"),
        1 | 4 => {
            assert!(said.contains("error: ") && said.contains(why), "{what}: {said}");
            let place = place.directory.path().to_str().unwrap();
            assert!(said.contains(place) || said.contains("sha256:"), "{what}: no file is named: {said}");
        }
        status => panic!("{what}: exit status {status}: {said}"),
    }
}

/// Every one of `calls` on files of the store and the layout fails once.
fn sweep(calls: &str, (errno, why): (i32, &str)) {
    let injector = or_skip!("failing calls", Injector::new());
    let small = Small::new();
    let count = injector.count(&small.place(), calls);
    assert!(count > 10, "{count} calls to {calls}");
    let items: Vec<usize> = (1..=count).collect();
    let failed = AtomicUsize::new(0);
    each(&items, |&at| {
        let place = small.place();
        let (finished, call) = injector.build(&place, calls, &errno.to_string(), at);
        let what = format!("{why} at call {at} of {count}, {call:?}");
        check_said(&place, &finished, why, &what);
        failed.fetch_add(usize::from(finished.status() != 0), Ordering::Relaxed);
        place.check(&what);
    });
    assert!(failed.into_inner() > count / 4, "most faults were not even noticed");
}

#[test]
fn no_space() {
    sweep("create,write,fsync,mkdir,rename,ftruncate", ENOSPC);
}

#[test]
fn a_failing_disk() {
    sweep("open,create,read,write,fsync,fchmod,mkdir,rename,ftruncate,unlink", EIO);
}

#[test]
fn too_many_files() {
    sweep("open,create", EMFILE);
}

#[test]
fn short_writes() {
    let injector = or_skip!("short writes", Injector::new());
    let small = Small::new();
    let count = injector.count(&small.place(), "write");
    assert!(count > 10, "{count} writes");
    let items: Vec<usize> = (1..=count).collect();
    each(&items, |&at| {
        let place = small.place();
        let (finished, call) = injector.build(&place, "write", "short", at);
        let what = format!("short write {at}, {call:?}");
        assert_eq!(finished.expect(0).digest(), small.digest, "{what}");
        place.check(&what);
    });
}

/// Also what is no file of ours: libraries, configuration, sockets, the runtime's own descriptors. Not `read` and `write`,
/// which no system fails on an eventfd.
#[test]
fn system_calls() {
    or_skip!("failing system calls", strace::available());
    let small = Small::new();
    let mut items = Vec::new();
    for (calls, error) in [
        ("openat,socket,epoll_create1,eventfd2,socketpair,fcntl", "EMFILE"),
        ("openat,mkdir,rename,renameat,renameat2,fsync,ftruncate", "ENOSPC"),
        ("pread64,openat,fsync,fdatasync,rename,renameat,unlink,getdents64", "EIO"),
    ] {
        let place = small.place();
        let most = strace::most(place.build(), &place.path("log"), calls);
        items.extend((1..=most).map(|at| (calls, error, at)));
    }
    each(&items, |&(calls, error, at)| {
        let place = small.place();
        let fault = format!("error={error}");
        let injected = strace::inject(place.build(), &place.path("log"), calls, &fault, &at.to_string());
        let what = format!("{error} at call {at} of a thread: {:?}", injected.calls);
        check_told(&injected.finished, &small.digest, &what);
        place.check(&what);
    });
}

/// The image was made, or the program has said what failed, and on what, with a status of its own.
#[track_caller]
fn check_told(finished: &Finished, digest: &str, what: &str) {
    let said = finished.stderr();
    assert!(!said.contains("panicked"), "{what}: {said}");
    match finished.status() {
        0 => assert_eq!(finished.digest(), digest, "{what}"),
        1..=6 => {
            let told = said.lines().find_map(|line| line.strip_prefix("error: "));
            // A path, a URL, a digest or a file's name; or what could not be had from the system.
            let files = ["/", "sha256:", ".toml", ".lock", ".deb", ".whl", "\"app\""];
            let others = ["HTTP client", "network runtime", "threads"];
            let named = files.iter().chain(&others).any(|name| said.contains(name)) && told.is_some();
            assert!(named, "{what}: {said}");
        }
        // Before `main` it is the linker that speaks.
        127 => assert!(said.contains("error while loading shared libraries: "), "{what}: {said}"),
        status => panic!("{what}: exit status {status}: {said}"),
    }
}

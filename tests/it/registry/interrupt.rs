//! SIGINT in the middle of a push or a pull: the exit status of the signal, no name, no open session, no temporary file; the next one
//! gets through.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::push_faults::{built, complete, digest, is};
use crate::support::mlbuild::{Project, Run};
use crate::support::testregistry::TestRegistry;

/// A registry that answers no request of this kind while it is held.
struct Held {
    registry: TestRegistry,
    held: Arc<AtomicBool>,
    /// Requests that have come to wait.
    waiting: Arc<AtomicUsize>,
}

impl Held {
    fn start(method: &'static str, part: &'static str) -> Self {
        let (held, waiting) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (inside, come) = (Arc::clone(&held), Arc::clone(&waiting));
        let registry = TestRegistry::start(digest, move |request| {
            let waits = is(request, method, part);
            come.fetch_add(usize::from(waits), Ordering::SeqCst);
            while waits && inside.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            None
        });
        Self { registry, held, waiting }
    }

    fn name(&self) -> String {
        format!("{}/team/app:1", self.registry.host())
    }

    /// Interrupts `run` once its request waits.
    fn interrupt(&self, run: Run) {
        let before = self.waiting.load(Ordering::SeqCst);
        let mut child =
            run.command().stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while self.waiting.load(Ordering::SeqCst) == before {
            assert!(begun.elapsed() < Duration::from_secs(30) && child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = Instant::now();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(130), "{said}");
        assert!(said.lines().any(|line| line == "cancelled"), "{said}");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.store(false, Ordering::SeqCst);
    }
}

fn leaves_nothing(project: &Project) {
    let left: Vec<_> = fs::read_dir(project.store().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn of_a_push() {
    let tiny = built();
    let held = Held::start("PUT", "/blobs/uploads/");
    for arguments in
        [&["push", "--image", "image", &held.name()][..], &["build", "--push", "-t", &held.name()]]
    {
        held.interrupt(tiny.mlbuild(arguments));
        let stored = held.registry.stored.lock().unwrap();
        assert!(stored.tags.is_empty());
        assert!(stored.sessions.is_empty(), "sessions are left open: {:?}", stored.sessions);
        drop(stored);
        leaves_nothing(&tiny.project);
    }
    held.held.store(false, Ordering::SeqCst);
    let _ = tiny.mlbuild(&["push", "--image", "image", &held.name()]).ok();
    assert!(complete(&held.registry) && !held.registry.stored.lock().unwrap().tags.is_empty());
}

#[test]
fn of_a_pull() {
    let tiny = built();
    let held = Held::start("GET", "/blobs/");
    let pushed = tiny.mlbuild(&["push", "--image", "image", &held.name(), "--json"]).ok().json();
    let project = Project::empty();
    held.interrupt(project.mlbuild(&["pull", &held.name()]));
    assert!(project.mlbuild(&["images", "--quiet"]).ok().stdout().is_empty());
    leaves_nothing(&project);
    held.held.store(false, Ordering::SeqCst);
    let pulled = project.mlbuild(&["pull", &held.name()]).ok().digest();
    assert_eq!(pulled, pushed[0]["digest"].as_str().unwrap());
}

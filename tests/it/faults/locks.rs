//! `mlbuild lock` while the disk is full or fails, while descriptors run out, or while writes are short: it makes the lock,
//! or says why not. The lock beside the spec is the old one or the new one, whole; nothing else is left there, and the next
//! `lock` gives the bytes that it gives where nothing has happened.
//!
//! All of it with an index on 127.0.0.1 and a Debian that is locked already. uv works in several threads and names its
//! temporary files by chance, so that the N-th call is not the same one in each run: what must hold does not depend on
//! which it was, and where a run has fewer calls than the one that was counted, nothing happens to it.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlbuild::digest::Digest;

use super::errors::{EIO, EMFILE, ENOSPC};
use super::inject::Injector;
use super::{certificate, each, fast, names, noise};
use crate::support::mlbuild::{Finished, PROGRAM, Run};
use crate::support::skip::or_skip;
use crate::support::testserver::{Reply, Request, TestServer};
use crate::support::tiny::Tiny;
use crate::support::wheels::{file, wheel_files, zip};

/// A lock that is to be made.
struct Making {
    /// The project without a store, and the server of its Debian.
    tiny: Tiny,
    _index: Option<TestServer>,
    arguments: &'static [&'static str],
    before: Option<String>,
    after: String,
}

impl Making {
    /// Of the project as it stands, with what an undisturbed run makes of it.
    fn of(tiny: Tiny, index: Option<TestServer>, arguments: &'static [&'static str]) -> Self {
        let before = fs::read_to_string(tiny.project.path().join("mlbuild.lock")).ok();
        let mut making = Self { tiny, _index: index, arguments, before, after: String::new() };
        let place = making.place();
        let _ = place.lock().ok();
        making.after = place.text().unwrap();
        assert_ne!(making.before.as_ref(), Some(&making.after), "there is nothing to do");
        making
    }

    /// The first lock of a project: files alone, nothing is asked of anybody.
    fn first() -> Self {
        let tiny = Tiny::new();
        tiny.project
            .write("mlbuild.toml", "[base]\nscratch = true\n[[copy]]\nfrom = \"app\"\nto = \"/app\"\n");
        tiny.project.write("app", "x");
        Self::of(tiny, None, &["lock"])
    }

    /// Wheels for a project that has none: one with metadata beside it, one without, one of which the index says no digest.
    fn of_wheels(arguments: &'static [&'static str]) -> Self {
        let wheel = |name: &str, content: Vec<u8>| {
            zip(&wheel_files(name, "1.0", &[file(&format!("{name}/data"), content)]))
        };
        let wheels = [("alpha", noise(3000)), ("beta", noise(60_000)), ("gamma", noise(9000))]
            .map(|(name, content)| (name, wheel(name, content)));
        let index = TestServer::start(move |request| answer(request, &wheels));
        let url = index.url("/simple");
        let tiny = Tiny::new().spec(&format!("[[index]]\nurl = \"{url}\"\ndefault = true\n")).locked();
        let spec = tiny.project.read("mlbuild.toml");
        let wanted = "dependencies = [\"alpha\", \"beta\", \"gamma\"]";
        tiny.project.write("mlbuild.toml", spec.replace("dependencies = []", wanted));
        Self::of(tiny, Some(index), arguments)
    }

    fn place(&self) -> Place<'_> {
        let place = Place {
            making: self,
            directory: tempfile::Builder::new().prefix("fault.").tempdir_in(fast()).unwrap(),
        };
        let project = place.directory.path().join("project");
        fs::create_dir(&project).unwrap();
        for name in names(&self.tiny.project.path()) {
            fs::copy(self.tiny.project.path().join(&name), project.join(&name)).unwrap();
        }
        place
    }
}

/// An index whose files are these.
fn answer(request: &Request, wheels: &[(&str, Vec<u8>)]) -> Reply {
    let file_of = |name: &str| format!("{name}-1.0-py3-none-any.whl");
    for (name, wheel) in wheels {
        let path = format!("/files/{}", file_of(name));
        if request.path == format!("/simple/{name}/") {
            let digest = Digest::of(wheel).hex();
            let hashes =
                if *name == "gamma" { serde_json::json!({}) } else { serde_json::json!({"sha256": digest}) };
            let page = serde_json::json!({
                "meta": { "api-version": "1.1" },
                "name": name,
                "files": [{
                    "filename": file_of(name),
                    "url": path,
                    "hashes": hashes,
                    "size": wheel.len(),
                    "core-metadata": *name == "alpha",
                }],
            });
            return Reply::ok(page.to_string().into_bytes())
                .header("Content-Type", "application/vnd.pypi.simple.v1+json");
        } else if request.path == path {
            return Reply::file(request, wheel.clone());
        } else if *name == "alpha" && request.path == format!("{path}.metadata") {
            return Reply::ok(*b"Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n");
        }
    }
    Reply::status(404)
}

/// A copy of the project and a store that does not exist yet.
struct Place<'a> {
    making: &'a Making,
    directory: tempfile::TempDir,
}

impl Place<'_> {
    fn run(&self, arguments: &[&str]) -> Run {
        let at = self.directory.path();
        let home = self.making.tiny.project.home();
        let run = Run::new(PROGRAM)
            .args(arguments)
            .in_directory(&at.join("project"))
            .env("HOME", &home)
            .env("MLBUILD_HOME", at.join("store"));
        match certificate() {
            Some(file) => run.env("SSL_CERT_FILE", file).env("SSL_CERT_DIR", &home),
            None => run,
        }
    }

    fn lock(&self) -> Run {
        self.run(self.making.arguments)
    }

    fn text(&self) -> Option<String> {
        fs::read_to_string(self.directory.path().join("project/mlbuild.lock")).ok()
    }

    /// What must hold after a fault, and after the run that follows it.
    #[track_caller]
    fn check(&self, finished: &Finished, why: &str, what: &str) {
        let (making, said) = (self.making, finished.stderr());
        let text = self.text();
        match finished.status() {
            0 => assert_eq!(text.as_ref(), Some(&making.after), "{what}: another lock"),
            1 | 4 => {
                assert!(said.contains("error: ") && said.contains(why), "{what}: {said}");
                let names =
                    ["mlbuild.toml", "mlbuild.lock", "sha256:", self.directory.path().to_str().unwrap()];
                assert!(names.iter().any(|name| said.contains(name)), "{what}: no file is named: {said}");
                let whole = text == making.before || text.as_ref() == Some(&making.after);
                assert!(whole, "{what}: neither the old lock nor the new one: {text:?}");
            }
            status => panic!("{what}: exit status {status}: {said}"),
        }
        self.check_directory(what);
        let again = self.lock().run();
        assert_eq!(again.status(), 0, "{what}: the next lock fails: {}", again.stderr());
        assert_eq!(self.text().as_ref(), Some(&making.after), "{what}: the next lock is another");
        self.check_directory(what);
        for directory in ["tmp", "partial"] {
            let left = names(&self.directory.path().join("store").join(directory));
            assert!(left.is_empty(), "{what}: {left:?} in {directory}/ after the next lock");
        }
    }

    /// The project has its files, with a lock or without, and no other.
    #[track_caller]
    fn check_directory(&self, what: &str) {
        let mut expected = names(&self.making.tiny.project.path());
        expected.push("mlbuild.lock".to_owned());
        let found = names(&self.directory.path().join("project"));
        assert!(found.iter().all(|name| expected.contains(name)), "{what}: {found:?} in the project");
    }
}

/// Every one of `calls` on files of the project and the store fails once.
fn sweep(making: &Making, calls: &str, (errno, why): (i32, &str)) {
    let injector = or_skip!("failing calls", Injector::new());
    let counted = making.place();
    let count = injector.count_in(counted.directory.path(), counted.lock(), calls);
    assert!(count > 3, "{count} calls to {calls}");
    let items: Vec<usize> = (1..=count).collect();
    let failed = AtomicUsize::new(0);
    each(&items, |&at| {
        let place = making.place();
        let (finished, call) =
            injector.run(place.directory.path(), place.lock(), calls, &errno.to_string(), at);
        let what = format!("{why} at call {at} of {count}, {call:?}");
        assert!(call.is_some() || finished.status() == 0, "{what}: {}", finished.stderr());
        failed.fetch_add(usize::from(finished.status() != 0), Ordering::Relaxed);
        place.check(&finished, why, &what);
    });
    assert!(failed.into_inner() > 0, "not one fault was even noticed");
}

const ALL: &str = "open,create,read,write,fsync,fchmod,mkdir,rename,ftruncate,unlink";
const WRITING: &str = "create,write,fsync,mkdir,rename,ftruncate";

#[test]
fn of_files_alone() {
    let making = Making::first();
    for (calls, fault) in [(WRITING, ENOSPC), (ALL, EIO), ("open,create", EMFILE)] {
        sweep(&making, calls, fault);
    }
}

#[test]
fn of_wheels_without_space() {
    sweep(&Making::of_wheels(&["lock"]), WRITING, ENOSPC);
}

#[test]
fn of_wheels_on_a_failing_disk() {
    sweep(&Making::of_wheels(&["lock"]), ALL, EIO);
}

#[test]
fn of_wheels_with_too_few_descriptors() {
    sweep(&Making::of_wheels(&["lock"]), "open,create", EMFILE);
}

#[test]
fn with_seals_without_space() {
    sweep(&Making::of_wheels(&["lock", "--seal"]), WRITING, ENOSPC);
}

#[test]
fn with_seals_on_a_failing_disk() {
    sweep(&Making::of_wheels(&["lock", "--seal"]), ALL, EIO);
}

#[test]
fn short_writes() {
    let injector = or_skip!("short writes", Injector::new());
    for making in [Making::first(), Making::of_wheels(&["lock"]), Making::of_wheels(&["lock", "--seal"])] {
        let counted = making.place();
        let count = injector.count_in(counted.directory.path(), counted.lock(), "write");
        let items: Vec<usize> = (1..=count).collect();
        each(&items, |&at| {
            let place = making.place();
            let (finished, call) = injector.run(place.directory.path(), place.lock(), "write", "short", at);
            let what = format!("short write {at}, {call:?}");
            assert_eq!(finished.status(), 0, "{what}: {}", finished.stderr());
            place.check(&finished, "", &what);
        });
    }
}

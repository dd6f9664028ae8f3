//! The same lock gives the same digest, whatever else is different.
//!
//! Each variant builds `hello` in a store of its own that holds the downloads and nothing derived from them, so that
//! every layer is made anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{blob, hashes};
use crate::support::mlbuild::{PROGRAM, Run};
use crate::support::reference::{Reference, scratch};
use crate::support::skip::{Skip, or_skip, skip};
use crate::support::tool::{is_root, tool};

/// A copy of the project and of the downloads, in a directory that anyone may enter.
struct Variant {
    root: tempfile::TempDir,
    digest: String,
}

impl Variant {
    fn new(reference: &Reference, near: &Path) -> Self {
        let root = tempfile::Builder::new().prefix("variant.").tempdir_in(near).unwrap();
        open_up(root.path());
        for directory in ["project", "home", "store/blobs/sha256"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let lock = fs::read_to_string(reference.directory.join("mlbuild.lock")).unwrap();
        for file in ["mlbuild.toml", "mlbuild.lock"] {
            fs::copy(reference.directory.join(file), root.path().join("project").join(file)).unwrap();
        }
        let mut found = 0;
        for hex in hashes(&lock) {
            let (from, to) = (blob(&reference.store, &hex), blob(&root.path().join("store"), &hex));
            if from.exists() {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                if fs::hard_link(&from, &to).is_err() {
                    fs::copy(&from, &to).unwrap();
                }
                found += 1;
            }
        }
        assert!(found > 10, "the shared store has {found} of the lock's files");
        let program = root.path().join("mlbuild");
        fs::copy(PROGRAM, &program).unwrap();
        Self { root, digest: reference.digest.clone() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn build(&self, arguments: &[&str]) -> Run {
        Run::new(self.path("mlbuild"))
            .args(&["build", "--offline"])
            .args(arguments)
            .in_directory(&self.path("project"))
            .env("HOME", self.path("home"))
            .env("MLBUILD_HOME", self.path("store"))
            .env("TMPDIR", self.root.path())
    }

    #[track_caller]
    fn check(&self, what: &str, run: Run) {
        assert_eq!(run.ok().digest(), self.digest, "{what}");
    }
}

fn open_up(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn threads() {
    let reference = or_skip!("threads", Reference::get("hello"));
    let scratch = scratch();
    for jobs in ["1", "2", "16"] {
        let variant = Variant::new(&reference, scratch.path());
        variant.check(jobs, variant.build(&["--jobs", jobs]));
    }
}

#[test]
fn umask_locale_zone_home() {
    let reference = or_skip!("environment", Reference::get("hello"));
    let scratch = scratch();
    for umask in ["000", "077"] {
        let variant = Variant::new(&reference, scratch.path());
        let script = format!("umask {umask}; exec \"$@\"");
        variant.check(umask, variant.build(&[]).under(&["sh", "-c", &script, "sh"]));
    }
    let variant = Variant::new(&reference, scratch.path());
    let run = variant
        .build(&[])
        .env("LANG", "tr_TR.UTF-8")
        .env("LC_ALL", "tr_TR.UTF-8")
        .env("TZ", "Pacific/Chatham")
        .env("HOME", "/nonexistent")
        .env("USER", "somebody")
        .env("COLUMNS", "40")
        .env("RUST_LOG", "trace");
    variant.check("locale, zone, home", run);
}

#[test]
fn user() {
    let reference = or_skip!("user", Reference::get("hello"));
    or_skip!("user", tool("setpriv"));
    if !is_root() {
        return skip("user", &Skip("only root can become another user".to_owned()));
    }
    let variant = Variant::new(&reference, Path::new("/tmp"));
    let _ = Run::new("chown").args(&["-R", "65534:65534"]).arg(variant.root.path()).ok();
    let run = variant.build(&[]).under(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    variant.check("nobody", run);
}

#[test]
fn clock() {
    let reference = or_skip!("clock", Reference::get("hello"));
    or_skip!("clock", tool("faketime"));
    let scratch = scratch();
    for time in ["2031-02-03 04:05:06", "2001-01-01 00:00:00"] {
        let variant = Variant::new(&reference, scratch.path());
        variant.check(time, variant.build(&[]).under(&["faketime", time]));
    }
}

#[test]
fn file_systems() {
    let reference = or_skip!("file systems", Reference::get("hello"));
    let scratch = scratch();
    let mut kinds = Vec::new();
    for near in [scratch.path(), Path::new("/dev/shm"), Path::new("/tmp")] {
        if fs::metadata(near).is_ok_and(|found| found.is_dir()) {
            let kind = Run::new("stat").args(&["-f", "-c", "%T"]).arg(near).ok().stdout();
            let variant = Variant::new(&reference, near);
            variant.check(&kind, variant.build(&[]));
            kinds.push(kind.trim().to_owned());
        }
    }
    if !kinds.iter().any(|kind| kind == "tmpfs") {
        skip("tmpfs", &Skip("/dev/shm is no tmpfs".to_owned()));
    }
}

#[test]
fn cold_and_warm_store() {
    let reference = or_skip!("cold store", Reference::get("hello"));
    let scratch = scratch();
    let variant = Variant::new(&reference, scratch.path());
    fs::remove_dir_all(variant.path("store")).unwrap();
    let online = || {
        Run::new(variant.path("mlbuild"))
            .arg("build")
            .in_directory(&variant.path("project"))
            .env("HOME", variant.path("home"))
            .env("MLBUILD_HOME", variant.path("store"))
    };
    variant.check("cold", online());
    variant.check("warm", online());
    variant.check("warm and offline", variant.build(&[]));
}

//! Faults: a build that is killed, stopped, refused room, bytes or descriptors, cut off its power, or lied to by its
//! disk. Afterwards the next build gives the same digest, and nobody has to repair anything.
//!
//! All of it is done to one small build ([`Small`]) that takes some 50 ms: two Debian packages, three wheels and user
//! files, served on 127.0.0.1, exported to a layout. Every fault gets a store and a layout of its own ([`Place`]) on
//! tmpfs where there is one, so that hundreds of builds take a minute; each ends in [`Place::check`].
//!
//! `MLBUILD_TEST_FAULTS=N` makes the random parts N times as long.

mod archives;
mod crowd;
mod errors;
mod flips;
mod inject;
mod locks;
mod moments;
mod places;
mod power;
mod readonly;
mod stop;
pub mod strace;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use mlbuild::digest::hash_reader;

pub use places::Namespace;

use crate::support::mlbuild::Run;
use crate::support::tiny::Tiny;
use crate::support::wheels::file;

/// The project, and the digest that every build of it must give.
struct Small {
    tiny: Tiny,
    digest: String,
    /// One of the host's: no connection needs any, and reading hundreds of files for them takes longer than the build.
    certificate: Option<PathBuf>,
}

impl Small {
    fn new() -> Self {
        let tiny = Tiny::new()
            .wheel(
                "alpha",
                "1.0",
                &[file("alpha/__init__.py", "a = 1\n"), file("alpha/data", "a".repeat(5000))],
            )
            .wheel("beta", "2.0", &[file("beta/__init__.py", "b = 1\n")])
            .wheel("gamma", "3.0", &[file("gamma/__init__.py", noise(300_000))])
            .spec("[[copy]]\nfrom = \"app/\"\nto = \"/app/\"\n");
        tiny.project.write("app/main.py", "import alpha\n");
        tiny.project.write("app/weights", noise(40_000));
        let tiny = tiny.locked();
        let digest = tiny.mlbuild(&["build"]).ok().digest();
        Self { tiny, digest, certificate: certificate() }
    }

    /// A store and a layout that do not exist yet.
    fn place(&self) -> Place<'_> {
        self.place_at(tempfile::Builder::new().prefix("fault.").tempdir_in(fast()).unwrap())
    }

    fn place_at(&self, directory: tempfile::TempDir) -> Place<'_> {
        Place { small: self, directory }
    }

    /// A run of `mlbuild` with that store.
    fn mlbuild(&self, store: &Path, arguments: &[&str]) -> Run {
        let run = self.tiny.mlbuild(arguments).env("MLBUILD_HOME", store);
        match &self.certificate {
            Some(file) => run.env("SSL_CERT_FILE", file).env("SSL_CERT_DIR", self.tiny.project.home()),
            None => run,
        }
    }
}

/// Where one fault happens.
struct Place<'a> {
    small: &'a Small,
    directory: tempfile::TempDir,
}

impl Place<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    fn layout(&self) -> PathBuf {
        self.path("layout")
    }

    fn build(&self) -> Run {
        let output = format!("oci:{}", self.layout().display());
        self.small.mlbuild(&self.store(), &["build", "-o", &output])
    }

    /// The next build gives the digest and the image's bytes, and nothing is left of the one before.
    #[track_caller]
    fn check(&self, what: &str) {
        let built = self.build().run();
        assert_eq!(built.status(), 0, "{what}: the next build fails: {}", built.stderr());
        assert_eq!(built.digest(), self.small.digest, "{what}: the next build gives another image");
        self.check_layout(what);
        for directory in ["tmp", "partial"] {
            let left = names(&self.store().join(directory));
            assert!(left.is_empty(), "{what}: {left:?} in {directory}/ after the next build");
        }
    }

    /// The layout is the image and nothing else.
    #[track_caller]
    fn check_layout(&self, what: &str) {
        let layout = self.layout();
        let index = fs::read_to_string(layout.join("index.json")).unwrap();
        assert!(index.contains(&self.small.digest), "{what}: {index}");
        assert_eq!(names(&layout), ["blobs", "index.json", "oci-layout"], "{what}");
        let blobs = blobs(&layout.join("blobs/sha256"));
        assert_eq!(
            blobs.len(),
            7,
            "{what}: four layers and a copied one, a manifest and a config: {blobs:?}"
        );
        check_blobs(&layout.join("blobs/sha256"), what);
    }
}

fn certificate() -> Option<PathBuf> {
    let certificates = blobs(Path::new("/etc/ssl/certs"));
    certificates.into_iter().find(|path| {
        fs::read_to_string(path).is_ok_and(|text| text.matches("BEGIN CERTIFICATE").count() == 1)
    })
}

/// Each file below `directory` is named by its SHA-256.
#[track_caller]
fn check_blobs(directory: &Path, what: &str) {
    for path in blobs(directory) {
        let (digest, _) = hash_reader(fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(digest.hex(), path.file_name().unwrap().to_str().unwrap(), "{what}: a wrong object");
    }
}

/// Files below a directory, in order.
fn blobs(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Names in a directory, in order; none when it is not there.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// A directory in which synchronising costs nothing, or else any.
fn fast() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let writable = tempfile::tempdir_in(shm).is_ok();
    if writable { shm.to_owned() } else { std::env::temp_dir() }
}

/// Bytes that do not compress, the same in each run.
fn noise(len: usize) -> Vec<u8> {
    let mut random = Random::new(len as u64);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes()[..7]);
    }
    bytes.truncate(len);
    bytes
}

/// xorshift64*: chance that is the same in each run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// How many times as long the random parts are to be.
fn times(count: usize) -> usize {
    let factor = std::env::var("MLBUILD_TEST_FAULTS").ok().and_then(|text| text.parse().ok());
    count * factor.unwrap_or(1)
}

/// Does `work` for each item, on all processors; the first failure ends the test once all have ended.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            threads.spawn(|| {
                while failed.lock().unwrap().is_none()
                    && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(item)));
                    if let Err(panic) = done {
                        failed.lock().unwrap().get_or_insert(panic);
                    }
                }
            });
        }
    });
    if let Some(panic) = failed.into_inner().unwrap() {
        std::panic::resume_unwind(panic);
    }
}

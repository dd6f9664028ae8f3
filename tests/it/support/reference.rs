//! The reference images of `fixtures/specs`, locked and built from the real index and the real archive once for all
//! checks: by the hash of the program and the spec, in the cache that `tests/run` names.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mlbuild::digest::{Digest, hash_reader};

use super::mlbuild::{PROGRAM, Run};
use super::project;
use super::skip::Skip;

/// A reference image that is built.
pub struct Reference {
    /// Holds `mlbuild.toml` and `mlbuild.lock`.
    pub directory: PathBuf,
    /// The shared store.
    pub store: PathBuf,
    /// The OCI layout of the build.
    pub layout: PathBuf,
    /// What `mlbuild build` printed.
    pub digest: String,
    /// Peak memory of the build in KiB, where GNU time was there to tell.
    pub peak_kib: Option<u64>,
}

/// Where everything big lies: outside the clone, on a disk.
pub fn cache() -> PathBuf {
    let cache = std::env::var_os("MLBUILD_TEST_CACHE").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME is set");
            std::env::var_os("XDG_CACHE_HOME")
                .map_or_else(|| Path::new(&home).join(".cache"), PathBuf::from)
                .join("mlbuild-ci")
        },
        PathBuf::from,
    );
    fs::create_dir_all(&cache).unwrap();
    cache
}

/// A scratch directory on the same disk, gone when it is dropped.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("scratch.").tempdir_in(cache()).unwrap()
}

impl Reference {
    /// `hello`, `sklearn` or `torch`.
    pub fn get(name: &str) -> Result<Self, Skip> {
        let spec = fs::read(project(&format!("fixtures/specs/{name}.toml"))).unwrap();
        let program = hash_reader(File::open(PROGRAM).unwrap()).unwrap().0;
        let key = Digest::of(format!("{program} {}", Digest::of(&spec))).hex()[..16].to_owned();
        let images = cache().join("reference");
        fs::create_dir_all(&images).unwrap();
        // Tests are processes of their own: the first one builds, the others wait.
        let lock = File::create(images.join(format!("{name}.lock"))).unwrap();
        lock.lock().unwrap();
        let directory = images.join(format!("{name}-{key}"));
        let reference = Self::at(directory);
        if let Some(reference) = reference.read() {
            return Ok(reference);
        }
        for old in fs::read_dir(&images).unwrap() {
            let old = old.unwrap();
            if old.file_name().to_str().is_some_and(|old| old.starts_with(&format!("{name}-"))) {
                fs::remove_dir_all(old.path()).unwrap();
            }
        }
        reference.build(&spec)
    }

    fn at(directory: PathBuf) -> Self {
        let layout = directory.join("layout");
        Self { directory, store: cache().join("store"), layout, digest: String::new(), peak_kib: None }
    }

    fn read(&self) -> Option<Self> {
        let text = fs::read_to_string(self.directory.join("built")).ok()?;
        let mut lines = text.lines();
        let digest = lines.next()?.to_owned();
        let peak_kib = lines.next().and_then(|line| line.parse().ok());
        Some(Self { digest, peak_kib, ..Self::at(self.directory.clone()) })
    }

    fn build(mut self, spec: &[u8]) -> Result<Self, Skip> {
        fs::create_dir_all(&self.directory).unwrap();
        fs::write(self.directory.join("mlbuild.toml"), spec).unwrap();
        let lock = self.mlbuild(&["lock"]).run();
        if lock.status() == 5 {
            return Err(Skip(format!("no network: {}", lock.stderr().trim())));
        }
        let _ = lock.expect(0);
        let output = format!("oci:{}", self.layout.display());
        // One platform: most of the other tools do not choose from an index.
        let mut build = self.mlbuild(&["build", "--platform", "linux/amd64", "-o", &output]);
        let peak = self.directory.join("peak");
        if let Ok(time) = super::tool::tool("time") {
            build = build.under(&[time.to_str().unwrap(), "-f", "%M", "-o", peak.to_str().unwrap()]);
        }
        self.digest = build.ok().digest();
        self.peak_kib = fs::read_to_string(&peak).ok().and_then(|text| text.trim().parse().ok());
        let peak = self.peak_kib.map(|kib| kib.to_string()).unwrap_or_default();
        fs::write(self.directory.join("built"), format!("{}\n{peak}\n", self.digest)).unwrap();
        Ok(self)
    }

    /// `mlbuild` in the directory of the image, with the shared store.
    pub fn mlbuild(&self, arguments: &[&str]) -> Run {
        let home = self.directory.join("home");
        fs::create_dir_all(&home).unwrap();
        Run::new(PROGRAM)
            .args(arguments)
            .in_directory(&self.directory)
            .env("HOME", home)
            .env("MLBUILD_HOME", &self.store)
    }

    pub fn lock(&self) -> toml::Table {
        fs::read_to_string(self.directory.join("mlbuild.lock")).unwrap().parse().unwrap()
    }

    /// `oci:` and the layout, as other tools take it.
    pub fn transport(&self) -> String {
        format!("oci:{}", self.layout.display())
    }
}

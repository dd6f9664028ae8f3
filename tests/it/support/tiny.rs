//! A whole build without the outside: a Debian of one package, a Python of one file, and wheels made on the spot, all
//! served on 127.0.0.1. It takes some 50 ms and 100 KB.
//!
//! ```ignore
//! let tiny = Tiny::new().wheel("demo", "1.0", &[file("demo/__init__.py", "x = 1\n")]).locked();
//! let digest = tiny.mlbuild(&["build"]).ok().digest();
//! assert!(tiny.server.requests().contains(&"/wheels/demo-1.0-py3-none-any.whl".to_owned()));
//! ```
//!
//! Nothing is resolved: a build asks no index and reads no InRelease, since the lock pins each file by SHA-256. So
//! [`Tiny::locked`] writes the lock that `mlbuild lock` would (its inputs are what the program itself reads from the
//! spec), and the files' URLs lie on the server. What is served can be changed behind the lock's back in
//! [`Tiny::site`]; what is locked, with [`Tiny::relock`]. Where the project, its store and its home are, and how the
//! program is run, [`Project`] says.
//!
//! Servers of the machine's own apt configuration are not asked as long as the .debs are there: mirrors of the spec
//! come first.

use std::fs;
use std::path::PathBuf;

use mlbuild::digest::Digest;
use mlbuild::engine;
use mlbuild::lock;
use mlbuild::lock::model::{DebLayer, DebLock, Lock, PackageLock, PythonLock, SuiteLock, WheelLock};
use mlbuild::oci::Platform;
use mlbuild::spec::model::PythonProvider;

use super::loopback::Loopback;
use super::mlbuild::{Project, Run};
use super::wheels::{File, wheel_files, zip};

const PLATFORM: Platform = Platform::LinuxAmd64;

/// A project whose every file is served on loopback.
pub struct Tiny {
    pub project: Project,
    pub server: Loopback,
    site: tempfile::TempDir,
    /// What is locked of each wheel.
    packages: Vec<PackageLock>,
    debs: Vec<DebLock>,
    /// Lines of the spec behind those that every tiny project has.
    more: String,
}

impl Tiny {
    /// A base and a Python, and no wheel yet.
    pub fn new() -> Self {
        let site = tempfile::tempdir().unwrap();
        let server = Loopback::serve(site.path());
        let mut tiny = Self {
            project: Project::empty(),
            server,
            site,
            packages: Vec::new(),
            debs: Vec::new(),
            more: String::new(),
        };
        let files =
            [("./etc/passwd", 0o644, "root:*:0:0:root:/root:/bin/sh\n"), ("./usr/bin/true", 0o755, "#!")];
        tiny.deb("tiny-base", DebLayer::Base, &files);
        let files = [("./usr/bin/python3.11", 0o755, "#!/bin/sh\n")];
        tiny.deb("python3.11-minimal", DebLayer::Python, &files);
        tiny
    }

    /// Where the server's files lie: `wheels/` and `debian/pool/`.
    pub fn site(&self, path: &str) -> PathBuf {
        self.site.path().join(path)
    }

    pub fn serve(&self, path: &str, bytes: &[u8]) {
        let path = self.site(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// One more Debian package, of regular files: name, mode, content.
    pub fn deb(&mut self, name: &str, layer: DebLayer, files: &[(&str, u32, &str)]) {
        // The interpreter's package has its version, which the lock says as well.
        let version = if name.starts_with("python") { "3.11.2-1" } else { "1" };
        let bytes = deb(name, version, files);
        let filename = format!("pool/main/t/{name}_{version}_amd64.deb");
        self.serve(&format!("debian/{filename}"), &bytes);
        self.debs.push(DebLock {
            name: name.to_owned(),
            version: version.to_owned(),
            platform: PLATFORM,
            architecture: "amd64".to_owned(),
            source: name.to_owned(),
            archive: "debian".to_owned(),
            filename,
            size: bytes.len() as u64,
            sha256: Digest::of(&bytes),
            layer,
            depends: Vec::new(),
        });
    }

    /// One more wheel, a good one.
    pub fn wheel(self, name: &str, version: &str, files: &[File]) -> Self {
        let bytes = zip(&wheel_files(name, version, files));
        self.wheel_bytes(&format!("{name}-{version}-py3-none-any.whl"), &bytes)
    }

    /// One more wheel, whatever its bytes; they are locked as they are.
    pub fn wheel_bytes(mut self, file_name: &str, bytes: &[u8]) -> Self {
        let mut parts = file_name.split('-');
        let (name, version) = (parts.next().unwrap(), parts.next().unwrap());
        self.serve(&format!("wheels/{file_name}"), bytes);
        self.packages.push(PackageLock {
            name: name.replace('_', "-").to_lowercase(),
            version: version.to_owned(),
            index: None,
            requested: true,
            dependencies: Vec::new(),
            wheels: vec![WheelLock {
                name: file_name.to_owned(),
                url: format!("{}/wheels/{file_name}", self.server.url),
                size: bytes.len() as u64,
                sha256: Digest::of(bytes),
                hashed_by_us: false,
                platforms: vec![PLATFORM],
            }],
        });
        self
    }

    /// More text at the end of the spec.
    pub fn spec(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self
    }

    /// Writes spec and lock.
    pub fn locked(self) -> Self {
        let wanted: Vec<_> = self
            .packages
            .iter()
            .map(|package| format!("\"{}=={}\"", package.name, package.version))
            .collect();
        let spec = format!(
            "[image]\nname = \"registry.example/tiny\"\nentrypoint = [\"python\"]\n\
             [base]\ndebian = \"bookworm\"\nmirrors = [\"{}/debian\"]\n\
             [python]\nversion = \"3.11\"\ndependencies = [{}]\n{}",
            self.server.url,
            wanted.join(", "),
            self.more
        );
        self.project.write("mlbuild.toml", spec);
        self.relock(|_| ());
        self
    }

    /// Writes the lock of the spec as it stands, with a change that the spec does not ask for.
    pub fn relock(&self, change: impl FnOnce(&mut Lock)) {
        let project = match engine::Project::open(&self.project.path().join("mlbuild.toml")) {
            Ok(project) => project,
            Err(error) => panic!("{error}: {error:?}"),
        };
        let mut lock = Lock {
            inputs: project.inputs(),
            bases: Vec::new(),
            suites: vec![SuiteLock {
                archive: "debian".to_owned(),
                suite: "bookworm".to_owned(),
                date: "2026-11-01T00:00:00Z".to_owned(),
                inrelease: Digest::of("InRelease"),
                signed_by: Vec::new(),
            }],
            python: Some(PythonLock {
                provider: PythonProvider::Debian,
                version: "3.11.2".to_owned(),
                build: None,
                executable: "/usr/bin/python3.11".to_owned(),
                site_packages: "/usr/local/lib/python3.11/dist-packages".to_owned(),
                scripts: "/usr/local/bin".to_owned(),
                prefix: "/usr/local".to_owned(),
                archives: Vec::new(),
            }),
            debs: self.debs.clone(),
            packages: self.packages.clone(),
            seals: Vec::new(),
        };
        change(&mut lock);
        lock.normalise();
        self.project.write("mlbuild.lock", lock::write(&lock));
    }

    pub fn mlbuild(&self, arguments: &[&str]) -> Run {
        self.project.mlbuild(arguments)
    }
}

/// A .deb of regular files, uncompressed.
fn deb(name: &str, version: &str, files: &[(&str, u32, &str)]) -> Vec<u8> {
    let control = format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n");
    let parts = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar(&[("./control", 0o644, &control)])),
        ("data.tar", tar(files)),
    ];
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in parts {
        bytes.extend(format!("{name:<16}0           0     0     100644  {:<10}`\n", content.len()).bytes());
        bytes.extend(&content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

fn tar(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        // `set_path` normalises, and Debian writes `./`.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

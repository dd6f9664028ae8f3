//! `mlbuild` in a cleared environment, with a home, a store and a project of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Host variables that the network needs; all others are cleared.
pub const PASSED_ON: [&str; 13] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "MLBUILD_DEBIAN_MIRROR",
    "MLBUILD_DEBIAN_SECURITY_MIRROR",
    "TMPDIR",
];

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mlbuild");

/// A directory with a spec, a home and a store, gone when it is dropped.
pub struct Project {
    directory: tempfile::TempDir,
    store: Option<PathBuf>,
}

impl Project {
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("project")).unwrap();
        fs::create_dir_all(directory.path().join("home")).unwrap();
        Self { directory, store: None }
    }

    pub fn new(spec: &str) -> Self {
        let project = Self::empty();
        project.write("mlbuild.toml", spec);
        project
    }

    /// Uses a store that others use too.
    pub fn with_store(mut self, store: &Path) -> Self {
        self.store = Some(store.to_owned());
        self
    }

    /// The directory of the spec.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub fn store(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(|| self.directory.path().join("store"))
    }

    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap()
    }

    /// A run of `mlbuild` that can still be changed.
    pub fn mlbuild(&self, arguments: &[&str]) -> Run {
        Run::new(PROGRAM)
            .args(arguments)
            .in_directory(&self.path())
            .env("HOME", self.home())
            .env("MLBUILD_HOME", self.store())
    }
}

/// A command in a cleared environment.
pub struct Run(Command);

impl Run {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8");
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::null());
        Self(command)
    }

    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.0.args(arguments);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub fn in_directory(mut self, path: &Path) -> Self {
        self.0.current_dir(path);
        self
    }

    /// The same command under a launcher such as `faketime` or `setpriv`.
    pub fn under(self, launcher: &[&str]) -> Self {
        let Some((program, arguments)) = launcher.split_first() else { return self };
        let mut outer = Command::new(program);
        outer.env_clear().args(arguments).arg(self.0.get_program()).args(self.0.get_args());
        for (name, value) in self.0.get_envs() {
            if let Some(value) = value {
                outer.env(name, value);
            }
        }
        if let Some(directory) = self.0.get_current_dir() {
            outer.current_dir(directory);
        }
        outer.stdin(Stdio::null());
        Self(outer)
    }

    pub fn command(self) -> Command {
        self.0
    }

    pub fn run(mut self) -> Finished {
        let shown = format!("{:?}", self.0);
        let output = self.0.output().unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
        Finished { command: shown, output }
    }

    /// Runs it and expects success.
    #[track_caller]
    pub fn ok(self) -> Finished {
        self.run().expect(0)
    }
}

/// What a command did.
#[must_use]
pub struct Finished {
    command: String,
    output: Output,
}

impl Finished {
    /// The exit status; -1 when a signal ended it.
    pub fn status(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert!(
            self.status() == status,
            "{}\nexit status {} where {status} was expected\n-- stdout\n{}\n-- stderr\n{}",
            self.command,
            self.status(),
            self.stdout(),
            self.stderr()
        );
        self
    }

    /// The last line of standard output, which `mlbuild build` promises to be a digest.
    #[track_caller]
    pub fn digest(&self) -> String {
        let text = self.stdout();
        let last = text.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("sha256:") && last.len() == 71, "no digest in the last line of: {text}");
        last
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout()).unwrap_or_else(|error| panic!("{error} in: {}", self.stdout()))
    }
}

//! Other programs: where they are, and how they are run on machines that lack one thing or another.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::mlbuild::Run;
use super::skip::Skip;

/// A program of the host, or why there is none.
pub fn tool(name: &str) -> Result<PathBuf, Skip> {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| {
            fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| Skip(format!("`{name}` is not installed")))
}

/// Effective user is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// podman with a store of its own, removed when it is dropped.
pub struct Podman {
    directory: tempfile::TempDir,
    runtime: tempfile::TempDir,
}

impl Podman {
    /// `near` is where the images will lie: it must have room for them unpacked.
    pub fn new(near: &Path) -> Result<Self, Skip> {
        tool("podman")?;
        tool("runc")?;
        if !is_root() {
            return Err(Skip("podman's checks run as root".to_owned()));
        }
        let directory = tempfile::Builder::new().prefix("podman.").tempdir_in(near).unwrap();
        // setrlimit fails where CAP_SYS_RESOURCE is missing, unless the limits are lowered; there is no systemd to ask
        // for a cgroup and no journal for events.
        let text = "[containers]\ndefault_ulimits=[\"nofile=20000:20000\",\"nproc=32768:32768\"]\n\
                    [engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"none\"\n";
        fs::write(directory.path().join("containers.conf"), text).unwrap();
        fs::write(directory.path().join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
            .unwrap();
        // Podman takes no runtime directory of more than 50 characters, wherever the cache is.
        let runtime = tempfile::Builder::new().prefix("p").rand_bytes(8).tempdir_in("/tmp").unwrap();
        let podman = Self { directory, runtime };
        let info = podman.run(&["info"]).run();
        if info.status() != 0 {
            return Err(Skip(format!("podman does not work here: {}", info.stderr().trim())));
        }
        Ok(podman)
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        let at = self.directory.path();
        let path = |name: &str| at.join(name).to_str().unwrap().to_owned();
        let (root, tmp) = (path("root"), path("tmp"));
        let runroot = self.runtime.path().to_str().unwrap().to_owned();
        fs::create_dir_all(&tmp).unwrap();
        Run::new("podman")
            .args(&["--root", &root, "--runroot", &runroot, "--tmpdir", &tmp])
            .args(&["--storage-driver", "overlay", "--runtime", "runc"])
            .args(arguments)
            .env("CONTAINERS_CONF", path("containers.conf"))
            .env("TMPDIR", path("tmp"))
            .env("HOME", at)
    }

    /// Loads the image of an OCI layout and gives its ID.
    pub fn pull(&self, layout: &Path) -> String {
        let policy = self.directory.path().join("policy.json");
        // Podman makes a name of the path, and not every path can be one: so it is a short one.
        let (parent, name) = (layout.parent().unwrap(), layout.file_name().unwrap());
        let from = format!("oci:{}", name.to_str().unwrap());
        let pull = self.run(&["pull", "-q", "--signature-policy", policy.to_str().unwrap(), &from]);
        let pulled = pull.in_directory(parent).ok().stdout();
        pulled.lines().last().unwrap().trim().to_owned()
    }

    /// Runs a Python program in the image and gives what it printed.
    pub fn python(&self, image: &str, program: &str) -> String {
        self.run(&["run", "--rm", "--network=none", "--entrypoint", "python", image, "-c", program])
            .ok()
            .stdout()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Mounts under the root keep the directory from being removed.
        let _ = self.run(&["rm", "-fa"]).run();
        let _ = self.run(&["umount", "-fa"]).run();
        let _ = Run::new("umount").arg(self.directory.path().join("root/overlay")).run();
    }
}

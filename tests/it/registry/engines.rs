//! Container engines read what we push, and we read what they push.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::peer::{Auth, Peer};
use crate::support::mlbuild::Project;
use crate::support::skip::{Skip, or_skip};
use crate::support::tiny::Tiny;
use crate::support::tool::{Podman, is_root, tool};
use crate::support::wheels::file;

/// A project, its image pushed under the name that is given, and the digest.
fn pushed(peer: &Peer) -> (Tiny, String, String) {
    let tiny = Tiny::new().wheel("one", "1.0", &[file("one/__init__.py", "x = 1\n")]).locked();
    let name = format!("{}/team/app:1", peer.host);
    let digest = tiny.mlbuild(&["build", "--push", "-t", &name]).ok().digest();
    (tiny, name, digest)
}

#[test]
fn podman_pulls() {
    let peer = or_skip!("podman_pulls", Peer::start(None, Auth::None));
    let (tiny, name, digest) = pushed(&peer);
    let podman = or_skip!("podman_pulls", Podman::new(&tiny.project.path()));
    let policy = tiny.project.path().join("policy.json");
    tiny.project.write("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let arguments =
        ["pull", "-q", "--tls-verify=false", "--signature-policy", policy.to_str().unwrap(), &name];
    let _ = podman.run(&arguments).ok();
    let seen = podman.run(&["image", "inspect", "--format", "{{.Digest}}", &name]).ok().stdout();
    assert_eq!(seen.trim(), digest);
    // And back: another format, other bytes, the same tree.
    let other = format!("{}/podman/app:1", peer.host);
    let _ = podman.run(&["tag", &name, &other]).ok();
    let _ = podman.run(&["push", "-q", "--tls-verify=false", "--format", "v2s2", &other]).ok();
    let project = Project::empty();
    let pulled = project.mlbuild(&["pull", &other, "--json"]).ok().json();
    assert_eq!(pulled["digest"].as_str().unwrap(), peer.manifest("podman/app", "1").unwrap());
    let diff_ids = |project: &Project, name: &str| {
        let seen = project.mlbuild(&["inspect", name, "--json"]).ok().json();
        let layers = seen["images"][0]["layers"].as_array().unwrap().clone();
        layers.into_iter().map(|layer| layer["diff_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(diff_ids(&project, &other), diff_ids(&tiny.project, &name));
}

/// Docker's daemon with everything of its own.
struct Docker {
    directory: tempfile::TempDir,
    daemon: Child,
}

impl Docker {
    fn start() -> Result<Self, Skip> {
        let program = tool("dockerd")?;
        tool("docker")?;
        if !is_root() {
            return Err(Skip("Docker's daemon runs as root".to_owned()));
        }
        // Its socket has a short name, wherever the tests lie.
        let directory = tempfile::Builder::new().prefix("d").rand_bytes(8).tempdir_in("/tmp").unwrap();
        let path = |name: &str| directory.path().join(name);
        // The machine's own settings are not ours.
        std::fs::write(path("daemon.json"), "{}").unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut daemon = Command::new(program);
        daemon
            .args([
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--storage-driver=vfs",
                "--config-file",
            ])
            .arg(path("daemon.json"))
            .args([PathBuf::from("--data-root"), path("data"), "--exec-root".into(), path("exec")])
            .args([PathBuf::from("--pidfile"), path("pid"), "-H".into()])
            .arg(format!("unix://{}", path("sock").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let docker = Self { daemon: daemon.spawn().unwrap(), directory };
        for _ in 0..300 {
            if docker.docker(&["version"]).is_ok() {
                return Ok(docker);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let said = std::fs::read_to_string(docker.directory.path().join("log")).unwrap();
        Err(Skip(format!("Docker's daemon does not start here: {}", said.lines().last().unwrap_or_default())))
    }

    fn docker(&self, arguments: &[&str]) -> Result<String, String> {
        let socket = format!("unix://{}", self.directory.path().join("sock").display());
        let mut docker = Command::new("docker");
        docker.args(["-H", &socket]).args(arguments).env("HOME", self.directory.path());
        let done = docker.output().unwrap();
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}

#[test]
fn docker_pulls_and_pushes() {
    let peer = or_skip!("docker_pulls_and_pushes", Peer::start(None, Auth::None));
    let docker = or_skip!("docker_pulls_and_pushes", Docker::start());
    let (tiny, name, digest) = pushed(&peer);
    docker.docker(&["pull", &name]).unwrap();
    let seen = docker.docker(&["image", "inspect", "--format", "{{index .RepoDigests 0}}", &name]).unwrap();
    assert!(seen.trim().ends_with(&format!("@{digest}")), "{seen} is not {digest}");
    let other = format!("{}/docker/app:1", peer.host);
    docker.docker(&["tag", &name, &other]).unwrap();
    docker.docker(&["push", &other]).unwrap();
    let project = Project::empty();
    let pulled = project.mlbuild(&["pull", &other]).ok().digest();
    assert_eq!(pulled, peer.manifest("docker/app", "1").unwrap());
    // From there it goes on as it is.
    let third = format!("{}/third/app:1", peer.host);
    let _ = project.mlbuild(&["push", "--image", &other, &third]).ok();
    assert_eq!(peer.manifest("third/app", "1").unwrap(), pulled);
    drop(tiny);
}

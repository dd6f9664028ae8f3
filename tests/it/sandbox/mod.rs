//! `mlbuild run`: real namespaces, as root and as an ordinary user, on real images and on trees made by hand.

mod arguments;
mod cgroup;
mod confine;
mod doctor;
mod gpu;
mod gpu_direct;
mod gpu_real;
mod identity;
mod interactive;
mod isolation;
mod launcher;
mod layers;
mod leftovers;
mod lifecycle;
mod limits;
mod machine;
mod network;
mod runtime;
mod seccomp_oracle;
mod signals;
mod storage;
mod swapped;
pub mod view;
mod volumes;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::support::mlbuild::{Finished, PROGRAM, Run};
use crate::support::reference::Reference;
use crate::support::skip::Skip;
use crate::support::tool::{is_root, tool};
use crate::trees::layout::{self, Layer};

/// The ordinary user, who is nobody known to the host.
const USER: u32 = 12_345;

/// Who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Root,
    User,
}

/// A place with an image, where everything that belongs to a user is that user's.
pub struct Host {
    who: Who,
    program: PathBuf,
    image: String,
    /// The same image, as all may read it.
    layout: PathBuf,
    store: PathBuf,
    /// Supplementary groups of the user.
    groups: Vec<u32>,
    /// What the program is started under, by root.
    launcher: Vec<String>,
    /// Of this test alone.
    pub directory: tempfile::TempDir,
}

impl Host {
    /// Both users, each with the reference image of that name.
    pub fn both(image: &str) -> Result<[Self; 2], Skip> {
        Ok([Self::new(Who::Root, image)?, Self::new(Who::User, image)?])
    }

    pub fn new(who: Who, image: &str) -> Result<Self, Skip> {
        if !is_root() {
            return Err(Skip("only root can become another user, and be root".to_owned()));
        }
        let reference = Reference::get(image)?;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        if who == Who::Root {
            let program = PathBuf::from(PROGRAM);
            let store = reference.store.clone();
            let (image, layout) = (reference.digest, reference.layout);
            let (groups, launcher) = (Vec::new(), Vec::new());
            return Ok(Self { who, program, image, layout, store, groups, launcher, directory });
        }
        tool("setpriv")?;
        chown(directory.path(), Some(USER), Some(USER)).unwrap();
        // Nobody else can look into a cache of root's; and every test is a process of its own.
        let shared = std::env::temp_dir().join("mlbuild-sandbox-tests");
        fs::create_dir_all(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o755)).unwrap();
        let lock = File::create(shared.join("lock")).unwrap();
        lock.lock().unwrap();
        let store = shared.join("store");
        fs::create_dir_all(&store).unwrap();
        chown(&store, Some(USER), Some(USER)).unwrap();
        let program = shared.join("mlbuild");
        let is_same = |path: &Path| fs::read(path).is_ok_and(|there| there == fs::read(PROGRAM).unwrap());
        if !is_same(&program) {
            let _ = fs::remove_file(&program);
            fs::copy(PROGRAM, &program).unwrap();
        }
        let layout = shared.join(format!("{image}-{}", &reference.digest[7..19]));
        if !layout.exists() {
            let part = shared.join("part");
            let _ = fs::remove_dir_all(&part);
            // By links where that is the same disk.
            if Run::new("cp").arg("-al").arg(&reference.layout).arg(&part).run().status() != 0 {
                let _ = fs::remove_dir_all(&part);
                let _ = Run::new("cp").arg("-a").arg(&reference.layout).arg(&part).ok();
            }
            let _ = Run::new("chmod").args(&["-R", "a+rX"]).arg(&part).ok();
            fs::rename(&part, &layout).unwrap();
        }
        let image = format!("oci:{}", layout.display());
        let (groups, launcher) = (Vec::new(), Vec::new());
        Ok(Self { who, program, image, layout, store, groups, launcher, directory })
    }

    /// With a store of this test alone, for an image of gigabytes, which is unpacked again then.
    pub fn alone(who: Who, image: &str) -> Result<Self, Skip> {
        let mut host = Self::new(who, image)?;
        if who == Who::Root {
            host.image = format!("oci:{}", Reference::get(image)?.layout.display());
        }
        host.store = host.path("store");
        fs::create_dir(&host.store).unwrap();
        host.give(&host.store);
        Ok(host)
    }

    /// With these layers upon those of the image.
    pub fn with_layers(mut self, layers: &[Layer]) -> Self {
        let layout = self.path("layout");
        layout::extend(&layout, &self.layout, layers);
        self.image = format!("oci:{}", layout.display());
        self
    }

    /// With the user in these groups, too.
    pub fn in_groups(mut self, groups: &[u32]) -> Self {
        self.groups = groups.to_vec();
        self
    }

    /// With another stop signal than that of the image.
    pub fn with_stop_signal(mut self, signal: &str) -> Self {
        let layout = self.path(&format!("layout-{signal}"));
        layout::extend_and_change(&layout, &self.layout, &[], |config| config["StopSignal"] = signal.into());
        self.image = format!("oci:{}", layout.display());
        self
    }

    /// In a mount namespace that this shell command has prepared; its `$0` is the directory of the test.
    pub fn where_root_has(mut self, prepared: &str) -> Self {
        let script = format!("{prepared} && exec \"$@\"");
        let directory = self.directory.path().display().to_string();
        let launcher = ["unshare", "-m", "--propagation", "private", "sh", "-c", &script, &directory];
        self.launcher = launcher.map(str::to_owned).to_vec();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file or directory of the user's.
    pub fn give(&self, path: &Path) {
        if self.who == Who::User {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
    }

    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        self.give(&path);
        path.display().to_string()
    }

    /// `mlbuild --quiet ARGUMENTS`
    pub fn mlbuild(&self, arguments: &[&str]) -> Run {
        self.launched(Run::new(&self.program).arg("--quiet").args(arguments))
    }

    /// A command as the user.
    pub fn launched(&self, run: Run) -> Run {
        let run = run.env("MLBUILD_HOME", &self.store).env("HOME", self.directory.path());
        let run = run.in_directory(self.directory.path());
        let user = USER.to_string();
        let groups = match self.groups.is_empty() {
            true => "--clear-groups".to_owned(),
            false => {
                format!("--groups={}", self.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
            }
        };
        let run = match self.who {
            Who::Root => run,
            Who::User => run.under(&["setpriv", "--reuid", &user, "--regid", &user, &groups]),
        };
        run.under(&self.launcher.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// `mlbuild run OPTIONS IMAGE -- COMMAND`, without the image's own entrypoint.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Run {
        let image = ["--entrypoint", "", &self.image, "--"];
        self.mlbuild(&[&["run"], options, &image, command].concat())
    }

    /// A Python program in the sandbox.
    #[track_caller]
    pub fn python(&self, options: &[&str], program: &str) -> Finished {
        self.run(options, &["python", "-c", program]).run()
    }
}

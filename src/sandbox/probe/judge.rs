//! What the facts mean: pure.

use std::collections::BTreeSet;

use serde::Serialize;

use super::attempt::Outcome;
use super::facts::Facts;
use crate::launch::gpu::{self, GpuError, GpuRequest, ImageFacts};
use crate::launch::{self, HostFacts, Identity, Limits};
use crate::oci::Platform;
use crate::sandbox::cgroup::{self, Limit};
use crate::sandbox::confine::landlock;

/// The oldest kernel that a run works on: `mount_setattr`.
const OLDEST: (u32, u32) = (5, 12);

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: &'static str,
    pub state: State,
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// A run works, but not all that it could have.
    Limited,
    /// No run works.
    Problem,
}

impl Finding {
    fn new(what: &'static str, state: State, detail: impl Into<String>) -> Self {
        Self { what, state, detail: detail.into(), fix: None }
    }

    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, State::Ok, detail)
    }

    fn limited(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, State::Limited, detail)
    }

    fn problem(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, State::Problem, detail)
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// In the order in which a run needs them.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![kernel(facts), namespaces(facts)];
    findings.extend([mounts(facts), overlay(facts), proc(facts)].into_iter().flatten());
    findings.extend([seccomp(facts), landlock_wall(facts), users(facts), network(facts)]);
    findings.extend(limits(facts));
    findings.push(gpus(facts));
    findings
}

fn kernel(facts: &Facts) -> Finding {
    let named = format!("Linux {} on {}", facts.kernel, facts.architecture);
    let (major, minor) = OLDEST;
    if !matches!(facts.architecture.as_str(), "x86_64" | "aarch64") {
        Finding::problem("kernel", format!("{named}: not an architecture that mlbuild runs images on"))
            .fix("use a machine with x86_64 or aarch64")
    } else if version(&facts.kernel).is_none_or(|version| version < OLDEST) {
        Finding::problem("kernel", format!("{named}: too old, {major}.{minor} or newer is needed"))
            .fix("use a newer kernel, or export the image (`mlbuild build -o …`) for a container engine on this host")
    } else {
        Finding::ok("kernel", named)
    }
}

/// `5.15.0-25-generic` is (5, 15).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn namespaces(facts: &Facts) -> Finding {
    const WHAT: &str = "user namespaces";
    match facts.attempt.namespaces {
        Outcome::Works => Finding::ok(WHAT, "work, and the others with them (tried)"),
        Outcome::NotTried => {
            Finding::limited(WHAT, "were not tried").fix("let `mlbuild doctor` try them on the host itself")
        }
        Outcome::Fails(error) => {
            let (why, fix) = blocked(facts, error);
            Finding::problem(WHAT, format!("the kernel refuses them: {why}")).fix(fix)
        }
    }
}

/// What keeps an ordinary user from having a user namespace, or from having rights in it.
fn blocked(facts: &Facts, error: i32) -> (String, String) {
    const EPERM: i32 = 1;
    const EINVAL: i32 = 22;
    const ENOSPC: i32 = 28;
    const ENOSYS: i32 = 38;
    let sysctl = &facts.sysctl;
    let set = |setting: &str, file: &str| {
        format!("as root: `sysctl -w {setting}`, and the same line in /etc/sysctl.d/{file}.conf to keep it")
    };
    if facts.chroot {
        let why = "this process is in a chroot".to_owned();
        (
            why,
            "leave the chroot, or make it the root of a mount namespace (`pivot_root`, `unshare --root`)"
                .to_owned(),
        )
    } else if sysctl.unprivileged_userns_clone == Some(0) {
        let why = "kernel.unprivileged_userns_clone is 0".to_owned();
        (why, set("kernel.unprivileged_userns_clone=1", "60-mlbuild"))
    } else if sysctl.max_user_namespaces == Some(0) {
        let why = "user.max_user_namespaces is 0".to_owned();
        (why, set("user.max_user_namespaces=15000", "60-mlbuild"))
    } else if error == ENOSPC {
        let why =
            "as many as user.max_user_namespaces allows are in use, or 32 inside of each other".to_owned();
        (why, set("user.max_user_namespaces=15000", "60-mlbuild"))
    } else if sysctl.apparmor_restrict_unprivileged_userns == Some(1) && facts.caller.uid != 0 {
        let why = "AppArmor takes the rights in them from programs without a profile \
                   (kernel.apparmor_restrict_unprivileged_userns is 1)";
        let fix = "as root, write a profile into /etc/apparmor.d/mlbuild: `abi <abi/4.0>, include <tunables/global> \
                   profile mlbuild /path/to/mlbuild flags=(unconfined) { userns, }` with the program's own path, and load \
                   it: `apparmor_parser -r /etc/apparmor.d/mlbuild`";
        (why.to_owned(), fix.to_owned())
    } else if let Some(engine) = &facts.container {
        let why = format!("this is a container of {engine}, whose rules forbid them");
        (why, nested(engine))
    } else if sysctl.max_user_namespaces.is_none() || error == ENOSYS || error == EINVAL {
        let why = "it was built without them (CONFIG_USER_NS)".to_owned();
        (why, "use a kernel with CONFIG_USER_NS".to_owned())
    } else if error == EPERM {
        let why = "a security module or the rules of a container forbid them (EPERM)".to_owned();
        let fix = "look for a denial in the kernel's log (`dmesg`), or ask who runs this host";
        (why, fix.to_owned())
    } else {
        (format!("error {error}"), "look for the reason in the kernel's log (`dmesg`)".to_owned())
    }
}

/// How to start a container so that another one can run in it.
fn nested(engine: &str) -> String {
    match engine {
        "docker" => {
            "start the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined \
                     --security-opt systempaths=unconfined`, or run on its host"
        }
        "podman" => {
            "start the container with `--security-opt unmask=ALL --security-opt label=disable \
                     --security-opt seccomp=unconfined`, or run on its host"
        }
        "kubernetes" => {
            "give the container `securityContext.procMount: Unmasked` in a pod with `hostUsers: false`, and \
                         the seccomp profile `Unconfined`"
        }
        _ => "run on the host",
    }
    .to_owned()
}

/// None where namespaces did not work, so that there was nothing to try it in; so are the next two.
fn mounts(facts: &Facts) -> Option<Finding> {
    match facts.attempt.mount {
        Outcome::NotTried => None,
        Outcome::Works => Some(Finding::ok("mounts", "work in a mount namespace (tried)")),
        Outcome::Fails(error) => {
            let (why, fix) = blocked(facts, error);
            Some(Finding::problem("mounts", format!("are refused in a mount namespace: {why}")).fix(fix))
        }
    }
}

fn overlay(facts: &Facts) -> Option<Finding> {
    const WHAT: &str = "overlay";
    let attempt = &facts.attempt;
    Some(match (attempt.overlay_by_layer, attempt.overlay) {
        (Outcome::Works, _) => Finding::ok(WHAT, "works, layer by layer (tried)"),
        (_, Outcome::Works) => {
            Finding::ok(WHAT, "works, with all layers in one text as before Linux 6.8 (tried)")
        }
        _ if !facts.overlay => {
            Finding::problem(WHAT, "the kernel has no overlay file system").fix("as root: `modprobe overlay`")
        }
        (Outcome::NotTried, Outcome::NotTried) => return None,
        (_, Outcome::Fails(error)) | (Outcome::Fails(error), _) => {
            Finding::problem(WHAT, format!("the kernel refuses it (error {error})"))
                .fix("look for the reason in the kernel's log (`dmesg`); Linux 5.11 or newer lets ordinary users mount one")
        }
    })
}

fn proc(facts: &Facts) -> Option<Finding> {
    const WHAT: &str = "/proc";
    Some(match facts.attempt.proc {
        Outcome::NotTried => return None,
        Outcome::Works => Finding::ok(WHAT, "of the processes in a sandbox works (tried)"),
        Outcome::Fails(_) if !facts.proc_masks.is_empty() => {
            let masks = facts.proc_masks.iter().take(3).map(|path| path.display().to_string());
            let shown = masks.collect::<Vec<_>>().join(", ");
            let why = format!("cannot be mounted anew: parts of the one here are hidden ({shown})");
            let engine = facts.container.as_deref().unwrap_or_default();
            Finding::problem(WHAT, why).fix(nested(engine))
        }
        Outcome::Fails(error) => Finding::problem(WHAT, format!("cannot be mounted anew (error {error})"))
            .fix("look for the reason in the kernel's log (`dmesg`)"),
    })
}

fn seccomp(facts: &Facts) -> Finding {
    if facts.seccomp {
        Finding::ok("system call filter", "works")
    } else {
        Finding::problem("system call filter", "the kernel has none (CONFIG_SECCOMP_FILTER)")
            .fix("use a kernel with CONFIG_SECCOMP_FILTER")
    }
}

fn landlock_wall(facts: &Facts) -> Finding {
    let enforced = landlock::enforced(facts.landlock, true);
    let held: Vec<_> = [
        (enforced.device_nodes, "device nodes"),
        (enforced.programs, "programs of the host"),
        (enforced.writes, "writes outside of a read-only run's volumes"),
        (enforced.scopes, "signals and abstract sockets"),
    ]
    .into_iter()
    .filter_map(|(is, what)| is.then_some(what))
    .collect();
    if facts.landlock == 0 {
        return Finding::limited(
            "Landlock",
            "the kernel has none, or it is not turned on: the other walls stand alone",
        )
        .fix("Linux 6.12 or newer; `landlock` in the list of the boot parameter `lsm=`");
    }
    let detail = format!(
        "interface {}; holds {}",
        facts.landlock,
        if held.is_empty() { "nothing of ours".into() } else { held.join(", ") }
    );
    match enforced.scopes {
        true => Finding::ok("Landlock", detail),
        false => Finding::limited("Landlock", detail)
            .fix("Linux 6.12 or newer holds signals and abstract sockets, too"),
    }
}

fn users(facts: &Facts) -> Finding {
    const WHAT: &str = "several users";
    if facts.caller.uid == 0 {
        return match launch::plain_identity(&facts.caller) {
            Identity::Same => Finding::ok(WHAT, "root has all of them"),
            Identity::Part { uids, .. } => {
                let count: u32 = uids.iter().map(|range| range.count).sum();
                Finding::ok(WHAT, format!("root of a user namespace with {count} of them"))
            }
            _ => Finding::limited(WHAT, "root here has itself only, and so has a sandbox").fix(
                "outside of this user namespace, or as its root with CAP_SETUID and CAP_SETGID, who may set groups",
            ),
        };
    }
    let name = facts.user.clone().unwrap_or_else(|| facts.caller.uid.to_string());
    match (&facts.newuidmap, &facts.newgidmap, facts.caller.subordinate_uids, facts.caller.subordinate_gids) {
        (Some(_), Some(_), Some((first, count)), Some(_)) => {
            Finding::ok(WHAT, format!("{count} subordinate IDs from {first} on"))
        }
        (None, ..) | (_, None, ..) => {
            Finding::limited(WHAT, "`newuidmap` and `newgidmap` are not installed: a sandbox has one user only")
                .fix("install them: package `uidmap` (Debian, Ubuntu) or `shadow-utils` (Fedora, RHEL)")
        }
        _ => Finding::limited(WHAT, format!("{name} has no subordinate IDs: a sandbox has one user only")).fix(format!(
            "as root: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}`, with IDs that nobody has \
             in /etc/subuid"
        )),
    }
}

fn network(facts: &Facts) -> Finding {
    const WHAT: &str = "private network";
    match (&facts.pasta, facts.tun) {
        (Some(path), true) => {
            Finding::ok(WHAT, format!("published ports, and the outside world through {}", path.display()))
        }
        (Some(_), false) => Finding::limited(
            WHAT,
            "published ports only: pasta is installed, but /dev/net/tun cannot be opened",
        )
        .fix("as root: `modprobe tun`, and mode 0666 for /dev/net/tun; or `--network host`"),
        (None, _) => {
            Finding::limited(WHAT, "published ports only: the outside world is out of reach without pasta")
                .fix("install pasta (package `passt`), or `--network host`")
        }
    }
}

fn limits(facts: &Facts) -> Vec<Finding> {
    let judge = |limit: Limit| {
        let limits = Limits {
            memory: (limit == Limit::Memory).then_some(1 << 30),
            milli_cpus: (limit == Limit::Cpus).then_some(1_000),
            pids: (limit == Limit::Pids).then_some(1_000),
            best_effort: false,
        };
        let plan = cgroup::plan(&facts.cgroups, &limits);
        if plan.ask.is_some() {
            let detail = "control groups version 2, in a unit that systemd is asked for";
            return Finding::ok(limit.option(), detail);
        }
        match (plan.groups.first(), plan.refused.first()) {
            (_, Some(refused)) => {
                let inside = facts.container.is_some() && refused.why != cgroup::Why::NotDelegated;
                let fix = match inside {
                    true => "give the container control groups of its own that may be written to, or run on the host".into(),
                    false => refused.remedy(facts.caller.uid),
                };
                Finding::limited(limit.option(), refused.reason()).fix(fix)
            }
            (Some(group), None) => {
                let version = match group.version {
                    cgroup::Version::One => 1,
                    cgroup::Version::Two => 2,
                };
                Finding::ok(
                    limit.option(),
                    format!("control groups version {version}, {}", group.parent.display()),
                )
            }
            (None, None) => unreachable!("a limit is enforced or refused"),
        }
    };
    Limit::ALL.into_iter().map(judge).collect()
}

/// What `--gpus all` would say.
fn gpus(facts: &Facts) -> Finding {
    const WHAT: &str = "--gpus";
    let host = HostFacts {
        caller: facts.caller.clone(),
        gpu: facts.gpu.clone(),
        cdi: facts.cdi.clone(),
        cdi_libraries: facts.cdi_libraries.clone(),
        ..HostFacts::default()
    };
    let image = ImageFacts { platform: Platform::HOST, ld_so_cache: None, compat: &[], environment: &[] };
    match gpu::gpus(&GpuRequest::All, &host, image) {
        Ok(plan) => {
            let warnings = plan.warnings.iter().chain(&facts.cdi_warnings);
            let said = warnings.fold(found(facts), |said, warning| format!("{said}; {warning}"));
            Finding::ok(WHAT, said)
        }
        Err(GpuError::NoGpu { broken }) if broken.is_empty() && facts.cdi_warnings.is_empty() => {
            Finding::ok(WHAT, "no GPU that mlbuild knows of")
        }
        Err(error) => {
            let hints = error.hints().into_iter().chain(facts.cdi_warnings.iter().cloned());
            Finding::limited(WHAT, error.to_string()).fix(hints.collect::<Vec<_>>().join("; "))
        }
    }
}

/// The GPUs in words.
fn found(facts: &Facts) -> String {
    let driver = facts.gpu.as_ref().and_then(|gpu| gpu.kernel_driver.as_deref());
    let gpus = facts.gpu.iter().flat_map(|gpu| &gpu.gpus);
    let models: BTreeSet<_> = gpus.clone().filter_map(|gpu| gpu.model.as_deref()).collect();
    let models = models.into_iter().collect::<Vec<_>>().join(", ");
    let files: Vec<_> = facts.cdi.iter().map(|file| file.path.display().to_string()).collect();
    let parts = [
        driver.map(|driver| format!("{} of NVIDIA's ({models}), driver {driver}", gpus.count())),
        (!files.is_empty()).then(|| format!("by {}", files.join(", "))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;

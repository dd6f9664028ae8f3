//! Our list of system calls against the lists that container engines have for a container without capabilities: Docker's
//! own (of its source package) and that of podman. What we allow, they allow.

use std::collections::BTreeMap;
use std::path::Path;

use mlbuild::sandbox::confine::seccomp::{Architecture, allowed};
use serde_json::Value;

use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip};
use crate::support::tool::tool;

/// Calls of kernels that came after Docker 20.10 and podman 4.3. Docker 29 has them all in its list for everybody.
const NEWER: [&str; 18] = [
    "cachestat",
    "fchmodat2",
    "futex_requeue",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "getxattrat",
    "listmount",
    "listxattrat",
    "map_shadow_stack",
    "mseal",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "removexattrat",
    "setxattrat",
    "statmount",
    "uretprobe",
];

/// Whether a profile lets a container without capabilities make a call, and with which arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Always,
    Sometimes,
    Never,
}

/// The answers of a profile in the format of Docker and podman, by name; a call that it does not name has none.
fn answers(profile: &Value) -> BTreeMap<String, Answer> {
    let texts = |value: &Value| -> Vec<String> {
        let all = value.as_array().into_iter().flatten();
        all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut answers = BTreeMap::new();
    for rule in profile["syscalls"].as_array().unwrap() {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let here = texts(&includes["caps"]).is_empty()
            && (texts(&includes["arches"]).is_empty()
                || texts(&includes["arches"]).contains(&"amd64".to_owned()))
            && !texts(&excludes["arches"]).contains(&"amd64".to_owned());
        let always = rule["args"].as_array().is_none_or(Vec::is_empty);
        let answer = match (rule["action"].as_str().unwrap(), always) {
            ("SCMP_ACT_ALLOW", true) if here => Answer::Always,
            ("SCMP_ACT_ALLOW", false) if here => Answer::Sometimes,
            _ => Answer::Never,
        };
        for name in texts(&rule["names"]) {
            let known = answers.entry(name).or_insert(Answer::Never);
            if answer == Answer::Always || *known == Answer::Never {
                *known = answer.clone();
            }
        }
    }
    answers
}

fn check(name: &str, profile: &Value) {
    let answers = answers(profile);
    assert!(answers.len() > 250, "{name} was not understood");
    let (mut wider, mut compared) = (Vec::new(), 0);
    for (call, _) in allowed(Architecture::X86_64) {
        // Which arguments: `only_the_same_arguments`.
        let conditional = ["clone", "ioctl", "personality", "socket", "socketpair"].contains(&call);
        match answers.get(call) {
            Some(Answer::Always) => compared += 1,
            Some(Answer::Sometimes) if conditional => compared += 1,
            None if NEWER.contains(&call) => {}
            answer => wider.push(format!("{call}: {answer:?}")),
        }
    }
    assert!(wider.is_empty(), "{name} does not allow: {}", wider.join(", "));
    assert!(compared > 250, "only {compared} calls compared");
}

#[test]
fn no_more_than_podman_allows() {
    let path = Path::new("/usr/share/containers/seccomp.json");
    let text = std::fs::read_to_string(path).map_err(|error| Skip(format!("{}: {error}", path.display())));
    let text = or_skip!("podman's list of system calls", text);
    check("podman", &serde_json::from_str(&text).unwrap());
}

#[test]
fn no_more_than_docker_allows() {
    let profile = or_skip!("Docker's list of system calls", docker());
    check("Docker", &profile);
    // Which arguments. Docker's conditions are alternatives.
    let rules = |name: &str| -> Vec<Value> {
        let all = profile["syscalls"].as_array().unwrap().iter();
        let named = all.filter(|rule| {
            rule["names"].as_array().unwrap().contains(&name.into()) && !rule["args"][0].is_null()
        });
        named.cloned().collect()
    };
    let values = |name: &str| -> Vec<u64> {
        rules(name).iter().map(|rule| rule["args"][0]["value"].as_u64().unwrap()).collect()
    };
    assert_eq!(values("personality"), [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff]);
    assert!(values("clone").iter().all(|mask| *mask == 0x7e02_0000), "{:?}", rules("clone"));
    // This version refuses no family of sockets, that of podman one. Ours: `closed_system_calls_fail_and_do_nothing`.
    assert_eq!(values("socket"), [0; 0]);
}

/// Docker's profile, of Debian's package of its source.
fn docker() -> Result<Value, Skip> {
    const PACKAGE: &str = "golang-github-docker-docker-dev";
    tool("apt-get")?;
    tool("dpkg-deb")?;
    let directory = tempfile::tempdir().unwrap();
    let fetched =
        Run::new("apt-get").args(&["-qq", "download", PACKAGE]).in_directory(directory.path()).run();
    let package = std::fs::read_dir(directory.path())
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(".deb")));
    let Some(package) = package else {
        return Err(Skip(format!("apt-get download {PACKAGE}: {}", fetched.stderr().trim())));
    };
    let _ = Run::new("dpkg-deb").arg("-x").arg(package.path()).arg(directory.path().join("out")).ok();
    let inside = "usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json";
    let text = std::fs::read_to_string(directory.path().join("out").join(inside));
    let text = text.map_err(|error| Skip(format!("{PACKAGE}: {inside}: {error}")))?;
    Ok(serde_json::from_str(&text).unwrap())
}

//! GPUs without a GPU: a made-up driver is found, planned for, and seen alike by other tools.

use std::fs;
use std::path::Path;

use mlbuild::elf::{read_cache, write_cache};
use mlbuild::launch::gpu::{self, GpuRequest, ImageFacts};
use mlbuild::launch::{CdiFile, HostFacts, Step};
use mlbuild::sandbox::discover;

use crate::support::gpu::{FakeDriver, PLATFORM, VERSION, looking_root, plan_sees, podman_sees};
use crate::support::mlbuild::Run;
use crate::support::skip::{Skip, or_skip};
use crate::support::tool::{Podman, tool};

/// glibc's own tool reads a cache that we read and wrote again as it reads the original.
#[test]
fn ldconfig_reads_our_cache() {
    let ldconfig = or_skip!("our ld.so.cache under ldconfig", tool("ldconfig"));
    let theirs = or_skip!(
        "our ld.so.cache under ldconfig",
        fs::read("/etc/ld.so.cache").map_err(|error| Skip(format!("/etc/ld.so.cache: {error}")))
    );
    let directory = tempfile::tempdir().unwrap();
    let list = |bytes: &[u8]| {
        let path = directory.path().join("cache");
        fs::write(&path, bytes).unwrap();
        let listed = Run::new(&ldconfig).args(&["-p", "-C"]).arg(&path).ok().stdout();
        // The first line names the file, the last who made it.
        listed.lines().filter(|line| line.starts_with('\t')).map(str::to_owned).collect::<Vec<_>>()
    };
    let entries = read_cache(&theirs).unwrap();
    assert_eq!(list(&write_cache(&entries)), list(&theirs));
    assert_eq!(list(&theirs).len(), entries.len());
}

fn image() -> ImageFacts<'static> {
    ImageFacts { platform: PLATFORM, ld_so_cache: None, compat: &[], environment: &[] }
}

#[test]
fn a_made_up_driver_is_found() {
    let root = tempfile::tempdir().unwrap();
    let driver = or_skip!("discovery of a driver", FakeDriver::new(root.path(), 2));
    let facts = driver.facts();
    assert_eq!(facts.kernel_driver.as_deref(), Some(VERSION));
    assert_eq!(facts.user_driver.as_deref(), Some(VERSION));
    let sonames: Vec<_> = facts.libraries.iter().filter_map(|library| library.soname.as_deref()).collect();
    assert_eq!(sonames, ["libcuda.so.1", "libnvidia-ml.so.1"]);
    assert_eq!(facts.nodes.len(), 6);
    let host = HostFacts { gpu: Some(facts), ..HostFacts::default() };
    let mut plan = gpu::gpus(&GpuRequest::All, &host, image()).unwrap();
    driver.rebase(&mut plan);
    assert_eq!(plan.warnings, Vec::<String>::new());
    let sources = all_sources(&plan.steps);
    assert!(sources.iter().all(|source| source.symlink_metadata().is_ok()), "{sources:?}");
    assert_eq!(sources.len(), 6 + 2 + 1);
    let one = gpu::gpus(&FakeDriver::uuid(1).parse().unwrap(), &host, image()).unwrap();
    assert!(all_sources(&one.steps).contains(&Path::new("/dev/nvidia1").to_owned()));
    assert!(!all_sources(&one.steps).contains(&Path::new("/dev/nvidia0").to_owned()));
}

#[test]
fn a_made_up_drivers_cdi_file_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let driver = or_skip!("a driver's CDI file", FakeDriver::new(root.path(), 1));
    let cdi = vec![CdiFile { path: "/etc/cdi/nvidia.json".into(), text: driver.cdi(true) }];
    let cdi_libraries = discover::cdi_libraries(Path::new("/"), &cdi, PLATFORM);
    let host = HostFacts { cdi, cdi_libraries, ..HostFacts::default() };
    let plan = gpu::gpus(&"0".parse().unwrap(), &host, image()).unwrap();
    assert_eq!(plan.warnings, Vec::<String>::new());
    let sources = all_sources(&plan.steps);
    assert!(sources.iter().all(|source| source.symlink_metadata().is_ok()), "{sources:?}");
    let links: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Symlink { target, to } => Some((target.rsplit('/').next().unwrap(), to.as_str())),
            _ => None,
        })
        .collect();
    let (cuda, nvml) = (format!("libcuda.so.{VERSION}"), format!("libnvidia-ml.so.{VERSION}"));
    assert_eq!(
        links,
        [("libcuda.so", "libcuda.so.1"), ("libcuda.so.1", &cuda), ("libnvidia-ml.so.1", &nvml)]
    );
}

/// Rootful podman brings in what our plan says, from the same CDI file. Its hooks it would run, so that there are none.
#[test]
fn podman_sees_what_we_plan() {
    const CHECK: &str = "the plan of a CDI file against podman";
    let directory = tempfile::tempdir().unwrap();
    let podman = or_skip!(CHECK, Podman::new(directory.path()));
    let at = |name: &str| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let root = at("root");
    or_skip!(CHECK, looking_root(&root));
    for (name, gpus, instances, devices) in FakeDriver::SHAPES {
        let mut driver = or_skip!(CHECK, FakeDriver::new(&at(name), gpus));
        or_skip!(CHECK, driver.partition(instances));
        let text = driver.cdi(false);
        let cdi = vec![CdiFile { path: "/etc/cdi/nvidia.json".into(), text: text.clone() }];
        let host = HostFacts { cdi, ..HostFacts::default() };
        for (device, count) in devices {
            let seen = or_skip!(CHECK, podman_sees(&podman, directory.path(), &root, &text, device));
            let plan = gpu::gpus(&device.parse().unwrap(), &host, image()).unwrap();
            assert_eq!(seen, plan_sees(&plan), "{name}: {device}");
            assert_eq!(FakeDriver::gpus_and_capabilities(&seen), *count, "{name}: {device}: {seen:?}");
        }
    }
}

/// The loader itself: a program of the driver finds the driver's libraries, and one of those another, by the host's cache
/// with the plan's entries in it, and not without.
#[test]
fn the_loader_finds_the_drivers_libraries() {
    const CHECK: &str = "libraries found by our ld.so.cache";
    let directory = tempfile::tempdir().unwrap();
    let driver = or_skip!(CHECK, FakeDriver::new(directory.path(), 1));
    or_skip!(CHECK, tool("unshare"));
    let cache = or_skip!(CHECK, fs::read("/etc/ld.so.cache").map_err(|error| Skip(error.to_string())));
    let host = HostFacts { gpu: Some(driver.facts()), ..HostFacts::default() };
    let image = ImageFacts { ld_so_cache: Some(&cache), ..image() };
    let mut plan = gpu::gpus(&GpuRequest::All, &host, image).unwrap();
    driver.rebase(&mut plan);
    let mut script =
        "set -e; mount -t tmpfs none /run; mkdir -p /run/mlbuild/nvidia/lib /run/mlbuild/nvidia/bin;"
            .to_owned();
    let (written, mut refreshed) = (directory.path().join("cache"), String::new());
    for step in &plan.steps {
        match step {
            Step::Bind { target, source, .. } if target.starts_with(gpu::DRIVER) => {
                script += &format!("cp {} {target};", source.display());
            }
            Step::Symlink { target, to } => script += &format!("ln -s {to} {target};"),
            Step::Data { target, content, .. } => {
                fs::write(&written, content).unwrap();
                refreshed = format!("mount --bind {} {target};", written.display());
            }
            _ => {}
        }
    }
    let smi = format!("{}/bin/nvidia-smi", gpu::DRIVER);
    let run = |script: String| {
        Run::new("unshare")
            .args(&["-m", "--propagation", "private", "sh", "-c"])
            .arg(script + "exec " + &smi)
            .run()
    };
    let without = run(script.clone());
    assert_eq!(without.status(), 12, "{}{}", without.stdout(), without.stderr());
    let with = run(script + &refreshed);
    assert_eq!(
        (with.status(), with.stdout().as_str()),
        (0, "driver 580.95.05, 0 GPUs\n"),
        "{}",
        with.stderr()
    );
}

fn all_sources(steps: &[Step]) -> Vec<std::path::PathBuf> {
    let sources = steps.iter().filter_map(|step| match step {
        Step::Bind { source, .. } => Some(source.clone()),
        _ => None,
    });
    sources.collect()
}

//! GPUs without a CDI file, and without a GPU: the program finds a made-up driver by itself, where a real one would be.

use std::fs;
use std::path::Path;

use super::Host;
use super::gpu_real::check;
use crate::support::gpu::{FakeDriver, looking_root};
use crate::support::mlbuild::{Finished, Run};
use crate::support::skip::{Skip, or_skip};

/// A user's place, with a driver of `gpus` GPUs.
fn hosts(gpus: u32) -> Result<Vec<(Host, FakeDriver)>, Skip> {
    let host = |host: Host| {
        let driver = FakeDriver::new(&host.path("driver"), gpus)?;
        driver.as_the_hosts()?;
        Ok((host, driver))
    };
    Host::both("hello")?.into_iter().map(host).collect()
}

fn on(driver: &FakeDriver, run: Run) -> Run {
    let launcher = driver.as_the_hosts().unwrap();
    run.under(&launcher.each_ref().map(String::as_str))
}

/// Files of the driver that cannot be changed from inside, and what a process has of its environment.
const FILES: &str = r"
import os
params = '/run/mlbuild/nvidia/params'
print(open(params).read().split('\n'))
for path in [params, '/run/mlbuild/nvidia/lib/libcuda.so.1', '/run/mlbuild/nvidia/new', '/run/mlbuild/nvidia/lib/new']:
    try:
        open(path, 'a')
        print(path, 'can be written to')
    except OSError:
        print(os.path.basename(path), 'is shut')
print(sorted((name, value) for name, value in os.environ.items() if 'NVIDIA' in name or 'CUDA' in name or name.startswith('LD_')))
";

#[test]
fn a_made_up_driver_is_found_and_used() {
    for (host, driver) in or_skip!("GPUs without a CDI file", hosts(2)) {
        let run = |options: &[&str], command: &[&str]| on(&driver, host.run(options, command)).ok().stdout();
        for (gpus, count) in [("all", 2), ("1", 1), (&FakeDriver::uuid(0), 1)] {
            let smi = run(&["--gpus", gpus], &["nvidia-smi"]);
            assert_eq!(smi, format!("driver 580.95.05, {count} GPUs\n"), "{:?} {gpus}", host.who);
        }
        let said = run(&["--gpus", "all"], &["python", "-c", FILES]);
        let expected = "['ModifyDeviceFiles: 0', 'DeviceFileMode: 438', '']\n\
                        params is shut\n\
                        libcuda.so.1 is shut\n\
                        new is shut\n\
                        new is shut\n\
                        [('NVIDIA_VISIBLE_DEVICES', 'void')]\n";
        assert_eq!(said, expected, "{:?}", host.who);

        let seen = nodes(&host, &driver, "1");
        for line in ["node /dev/nvidia1 195 1", "node /dev/nvidiactl 195 255", "node /dev/nvidia-uvm 506 0"] {
            assert!(seen.contains(&line.to_owned()), "{line} is not in {seen:?}");
        }
        assert!(!seen.iter().any(|line| line.contains("/dev/nvidia0")), "{seen:?}");
        // The kernel's file is not there without the kernel's part of a driver; that it would be covered, the plan says.
        let plan = run(&["--gpus", "all", "--dry-run"], &["python", "-V"]);
        let cover = "cover      /proc/driver/nvidia/params <- /run/mlbuild/nvidia/params\n";
        assert!(plan.contains(cover), "{plan}");
    }
}

/// Nodes that a static program sees, as `node PATH MAJOR MINOR`.
fn nodes(host: &Host, driver: &FakeDriver, gpus: &str) -> Vec<String> {
    let root = host.path("root");
    looking_root(&root).unwrap();
    let volume = format!("{}:/look:ro", root.join("look").display());
    let seen = on(driver, host.run(&["--gpus", gpus, "-v", &volume], &["/look"])).ok().stdout();
    seen.lines().filter(|line| line.starts_with("node ")).map(str::to_owned).collect()
}

#[test]
fn a_partitioned_gpu() {
    const CHECK: &str = "a partitioned GPU without a CDI file";
    for (host, mut driver) in or_skip!(CHECK, hosts(2)) {
        or_skip!(CHECK, driver.partition(&[1, 2]));
        let capability = |minor: u32| format!("node /dev/nvidia-caps/nvidia-cap{minor} 511 {minor}");
        for (gpus, whole, part) in [("0:0", 12, 13), ("0:1", 21, 22)] {
            let seen = nodes(&host, &driver, gpus);
            let capabilities: Vec<_> = seen.iter().filter(|line| line.contains("nvidia-caps/")).collect();
            assert_eq!(capabilities.len(), 2, "{gpus}: {seen:?}");
            for line in [capability(whole), capability(part), "node /dev/nvidia0 195 0".to_owned()] {
                assert!(seen.contains(&line), "{gpus}: {line} is not in {seen:?}");
            }
            assert!(!seen.contains(&"node /dev/nvidia1 195 1".to_owned()), "{gpus}: {seen:?}");
        }
        let whole = on(&driver, host.run(&["--gpus", "0"], &["nvidia-smi"])).run().expect(125);
        let said = "error: GPU 0 is partitioned\nhint: ask for its MIG devices: 0:0, 0:1\n";
        assert_eq!(whole.stderr(), said, "{:?}", host.who);
        driver.remove("dev/nvidia-caps/nvidia-cap22");
        let missing = on(&driver, host.run(&["--gpus", "0:1"], &["nvidia-smi"])).run().expect(125);
        let said = "error: the device node /dev/nvidia-caps/nvidia-cap22 is missing\n\
                    hint: `nvidia-modprobe -f /proc/driver/nvidia/capabilities/gpu0/mig/gi2/ci0/access` as root makes it";
        assert!(missing.stderr().starts_with(said), "{}", missing.stderr());
    }
}

/// The check of real GPUs passes on made-up ones, and fails where they compute wrongly or not at all.
#[test]
fn the_check_of_real_gpus() {
    const CHECK: &str = "the check of real GPUs on made-up ones";
    for (host, driver) in or_skip!(CHECK, hosts(2)) {
        let said = on(&driver, check(&host)).ok().stdout();
        for line in [
            "driver 580.95.05, 2 GPUs",
            "library /run/mlbuild/nvidia/lib/libcuda.so.580.95.05",
            "cuda 13.0",
            "devices 2",
            "device 0 Fake 0, 9.0: 100003 numbers are right",
            "device 1 Fake 1, 9.0: 100003 numbers are right",
            "all right",
        ] {
            assert!(said.lines().any(|said| said == line), "{:?}: {line} is not in\n{said}", host.who);
        }
        let volume = format!("{}:/check.py:ro", host.path("check.py").display());
        for (mode, error) in [
            ("wrong", "Fake 0: number 100002 is 7.0, not 6.0"),
            ("old", "cuModuleLoadData: 222: the provided PTX was compiled with an unsupported toolchain."),
        ] {
            let variable = format!("FAKE_CUDA={mode}");
            let options = ["--gpus", "all", "-e", &variable, "-v", &volume];
            let failed = on(&driver, host.run(&options, &["python", "/check.py"])).run().expect(1);
            assert_eq!(failed.stderr().trim(), error, "{:?}", host.who);
        }
    }
}

/// What is said where something is missing: by a run, with status 125, and by `doctor` in the same words.
#[test]
fn what_is_missing_is_named() {
    const CHECK: &str = "what is missing of a driver";
    for (host, driver) in or_skip!(CHECK, hosts(1)) {
        let refused = |error: &str, hint: &str| {
            let run = on(&driver, host.run(&["--gpus", "all"], &["python", "-V"])).run().expect(125);
            let expected = format!("error: {error}\n");
            assert!(run.stderr().starts_with(&expected), "{:?}: {expected}{}", host.who, run.stderr());
            assert!(run.stderr().contains(hint), "{:?}: {hint}\n{}", host.who, run.stderr());
            let finding = doctor(&on(&driver, host.mlbuild(&["doctor", "--json"])).run());
            assert_eq!(finding["detail"], error, "{:?}", host.who);
            assert!(finding["fix"].as_str().unwrap().contains(hint), "{:?}: {finding}", host.who);
        };
        driver.remove("dev/nvidia-uvm");
        refused("the device node /dev/nvidia-uvm is missing", "`nvidia-modprobe -u -c=0` as root makes it");
        driver.remove("dev/nvidia0");
        let both = "the device node /dev/nvidia-uvm is missing; the device node /dev/nvidia0 is missing";
        refused(both, "`nvidia-modprobe -c=0` as root makes it");
        // Without CUDA's node, but with what is there: nvidia-smi does without.
        let ignored = on(&driver, host.run(&["--gpus", "all", "--ignore-gpu-check"], &["nvidia-smi"])).ok();
        assert_eq!(ignored.stdout(), "driver 580.95.05, 0 GPUs\n", "{:?}", host.who);

        driver.write("sys/module/nvidia/version", "570.86.15\n");
        let mismatch = "the NVIDIA driver's kernel module is of version 570.86.15, its libraries are of version 580.95.05";
        refused(&format!("{mismatch}; {both}"), "reboot, or unload the nvidia modules and load them again");

        driver.remove("sys/module/nvidia");
        driver.remove("proc/driver/nvidia");
        let gpu = "although there is an NVIDIA GPU at 0000:01:00.0";
        let not_loaded = format!("the kernel module of the NVIDIA driver is not loaded, {gpu}");
        refused(&not_loaded, "`modprobe nvidia` as root loads it");
        or_skip!(CHECK, driver.cache(false));
        refused(&not_loaded, "install the NVIDIA driver of the distribution");

        driver.remove("sys/bus/pci/devices");
        let run = on(&driver, host.run(&["--gpus", "all"], &["python", "-V"])).run().expect(125);
        assert!(
            run.stderr().starts_with("error: this host has no GPU that mlbuild knows of\n"),
            "{}",
            run.stderr()
        );
        let _ = on(&driver, host.run(&["--gpus", "none"], &["python", "-V"])).ok();
    }
}

/// What doctor says of `--gpus`.
fn doctor(report: &Finished) -> serde_json::Value {
    let json = report.json();
    let findings = json["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["what"] == "--gpus").unwrap().clone()
}

#[test]
fn mounts_of_the_users_and_the_driver() {
    for (host, driver) in or_skip!("volumes over a driver", hosts(1)) {
        let smi = |options: &[&str]| {
            on(&driver, host.run(&[&["--gpus", "all"], options].concat(), &["nvidia-smi"])).run()
        };
        let works = "driver 580.95.05, 1 GPUs\n";
        // In memory there is room for both.
        let memory =
            smi(&["--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp", "--tmpfs", "/run/mlbuild"]).expect(0);
        assert_eq!(memory.stdout(), works, "{:?}", host.who);
        fs::create_dir_all(host.path("data")).unwrap();
        let data = host.path("data").display().to_string();
        for target in ["/run/user", "/data", "/etc/ssl"] {
            assert_eq!(smi(&["-v", &format!("{data}:{target}")]).expect(0).stdout(), works, "{target}");
        }
        for (target, hidden) in [
            ("/run", "/run/mlbuild/nvidia"),
            ("/run/mlbuild", "/run/mlbuild/nvidia"),
            ("/etc", "/etc/ld.so.cache"),
        ] {
            let refused = smi(&["-v", &format!("{data}:{target}")]).expect(125);
            let said = format!(
                "error: the volume {data} on {target} hides {hidden} of the GPU's driver: mount it on another directory\n"
            );
            assert_eq!(refused.stderr(), said, "{:?}", host.who);
        }
        // The image's /var/run is a link to /run.
        let refused = smi(&["-v", &format!("{data}:/var/run")]).expect(125);
        let said = "error: the volume on /var/run hides /run/mlbuild/nvidia, by a symbolic link of the image: mount it on \
                    another directory\n";
        assert_eq!(refused.stderr(), said, "{:?}", host.who);
        assert!(
            fs::read_dir(Path::new(&data)).unwrap().next().is_none(),
            "nothing of it is on the host's disk"
        );
        let without = host.run(&["-v", &format!("{data}:/run")], &["python", "-V"]).run();
        let _ = without.expect(0);
    }
}

//! GPUs in real sandboxes, without a GPU: a made-up driver, by its CDI file.

use std::fs;

use super::{Host, Who};
use crate::support::gpu::{FakeDriver, looking_root, podman_sees};
use crate::support::skip::or_skip;
use crate::support::tool::Podman;

/// What CUDA says, where its library was found, and what is in the way of changing it.
const CUDA: &str = r"
import ctypes, os
cuda = ctypes.CDLL('libcuda.so.1')
count = ctypes.c_int()
print(cuda.cuInit(0), cuda.cuDeviceGetCount(ctypes.byref(count)), count.value, os.environ['NVIDIA_VISIBLE_DEVICES'])
path = next(line.split()[-1] for line in open('/proc/self/maps') if 'libcuda' in line)
print(path)
try:
    open(path, 'r+')
    print('open')
except OSError:
    print('shut')
";

#[test]
fn a_made_up_gpu_by_its_cdi_file() {
    const CHECK: &str = "a GPU by its CDI file";
    for host in or_skip!(CHECK, Host::both("hello")) {
        let driver = or_skip!(CHECK, FakeDriver::new(&host.path("driver"), 2));
        fs::create_dir_all(host.path(".config/cdi")).unwrap();
        host.write(".config/cdi/nvidia.json", &driver.cdi(true));
        // The hooks of the file are of a program that does not exist: what they are for is done all the same.
        for (gpus, count) in [("all", 2), ("1", 1), ("nvidia.com/gpu=0", 1)] {
            let smi = host.run(&["--gpus", gpus], &["nvidia-smi"]).run().expect(0).stdout();
            assert_eq!(smi, format!("driver 580.95.05, {count} GPUs\n"), "{:?} {gpus}", host.who);
        }
        let said = host.python(&["--gpus", "all"], CUDA).expect(0).stdout();
        let library = format!("/{}/libcuda.so.580.95.05", FakeDriver::library_directory());
        assert_eq!(said, format!("0 0 2 void\n{library}\nshut\n"), "{:?}", host.who);
        // Nothing of it without the option.
        let without = "import ctypes, os\nprint([n for n in os.listdir('/dev') if 'nvidia' in n])\nctypes.CDLL('libcuda.so.1')";
        let none = host.python(&[], without);
        assert_eq!((none.status(), none.stdout().as_str()), (1, "[]\n"), "{}", none.stderr());
        let missing = host.run(&["--gpus", "7"], &["true"]).run();
        assert!(missing.stderr().contains("nvidia.com/gpu=7"), "{}", missing.stderr());
    }
}

#[test]
fn one_two_eight_and_partitioned_gpus_are_what_podman_sees() {
    const CHECK: &str = "GPUs by their CDI file, beside podman";
    for host in or_skip!(CHECK, Host::both("hello")) {
        fs::create_dir_all(host.path(".config/cdi")).unwrap();
        for (name, gpus, instances, devices) in FakeDriver::SHAPES {
            let mut driver = or_skip!(CHECK, FakeDriver::new(&host.path(name), gpus));
            or_skip!(CHECK, driver.partition(instances));
            host.write(".config/cdi/nvidia.json", &driver.cdi(true));
            for (device, count) in devices {
                let seen = seen(&host, device);
                let what = format!("{:?}, {name}: {device}", host.who);
                assert_eq!(FakeDriver::gpus_and_capabilities(&seen), *count, "{what}: {seen:?}");
                if host.who == Who::Root {
                    assert_eq!(seen_by_podman(&driver, &host, device), seen, "podman and ours, {what}");
                }
            }
        }
    }
}

/// What a static program sees of these GPUs, sorted.
fn seen(host: &Host, gpus: &str) -> Vec<String> {
    let root = host.path("root");
    looking_root(&root).unwrap();
    let volume = format!("{}:/look:ro", root.join("look").display());
    let said = host.run(&["--gpus", gpus, "-v", &volume], &["/look"]).run().expect(0).stdout();
    let mut seen: Vec<_> = said.lines().map(str::to_owned).collect();
    seen.sort();
    seen
}

/// The same by rootful podman, from the same file without hooks: it would run them.
fn seen_by_podman(driver: &FakeDriver, host: &Host, device: &str) -> Vec<String> {
    let (root, near) = (host.path("root"), host.directory.path());
    looking_root(&root).unwrap();
    let podman = Podman::new(near).unwrap();
    podman_sees(&podman, near, &root, &driver.cdi(false), device).unwrap()
}

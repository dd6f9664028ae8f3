use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::elf::{CacheEntry, cache_flags, read_cache, write_cache};
use crate::launch::{GpuFacts, Mig};

fn host(name: &str) -> HostFacts {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts").join(format!("gpu-{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn entry(name: &str, path: &str, flags: u32) -> CacheEntry {
    CacheEntry { name: name.to_owned(), path: path.to_owned(), flags, hwcap: 0, subdirectory: None }
}

/// The cache of an image that has a libcuda of its own, and one for another architecture.
fn cache() -> Vec<u8> {
    let ours = cache_flags(Platform::LinuxAmd64);
    write_cache(&[
        entry("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6", ours),
        entry("libcuda.so.1", "/usr/local/cuda-12.0/compat/libcuda.so.1", ours),
        entry("libcuda.so.1", "/usr/lib/i386-linux-gnu/libcuda.so.1", 0x0003),
    ])
}

fn image(cache: Option<&[u8]>) -> ImageFacts<'_> {
    ImageFacts { platform: Platform::LinuxAmd64, ld_so_cache: cache, compat: &[], environment: &[] }
}

fn plan(asked: &str, facts: &HostFacts) -> Result<GpuPlan, GpuError> {
    gpus(&asked.parse().unwrap(), facts, image(Some(&cache())))
}

/// One line for each thing that is done.
fn show(plan: &GpuPlan) -> String {
    let steps = plan.steps.iter().map(|step| serde_json::to_string(step).unwrap());
    let set = plan.environment.iter().map(|(name, value)| format!("{name}={value}"));
    let appended = plan.appended.iter().map(|(name, value)| format!("{name}=...:{value}"));
    let groups = plan.groups.iter().map(|group| format!("group {group}"));
    let warnings = plan.warnings.iter().map(|warning| format!("warning: {warning}"));
    steps.chain(set).chain(appended).chain(groups).chain(warnings).collect::<Vec<_>>().join("\n")
}

fn show_error(error: &GpuError) -> String {
    let hints = error.hints();
    let hints = hints.iter().map(|hint| format!("hint: {hint}"));
    std::iter::once(format!("error: {error}")).chain(hints).collect::<Vec<_>>().join("\n")
}

/// Sources of bound device nodes.
fn nodes(plan: &GpuPlan) -> Vec<String> {
    let nodes = plan.steps.iter().filter_map(|step| match step {
        Step::Bind { source, how, .. } if how.device => Some(source.display().to_string()),
        _ => None,
    });
    nodes.collect()
}

fn cache_of(plan: &GpuPlan) -> Vec<CacheEntry> {
    let content = plan.steps.iter().find_map(|step| match step {
        Step::Data { target, content, .. } if target == "/etc/ld.so.cache" => Some(content),
        _ => None,
    });
    read_cache(content.expect("there is a cache")).unwrap()
}

#[test]
fn plans_of_recorded_hosts() {
    for (name, asked) in
        [("one", "all"), ("two", "1"), ("eight", "all"), ("partitioned", "all"), ("cdi", "0"), ("amd", "all")]
    {
        insta::assert_snapshot!(format!("plan_{name}"), show(&plan(asked, &host(name)).unwrap()));
    }
}

#[test]
fn errors_of_recorded_hosts() {
    let mut shown = Vec::new();
    let mut add = |name: &str, asked: &str, facts: &HostFacts| {
        let error = plan(asked, facts).expect_err(name);
        shown.push(format!("{name}: --gpus {asked}\n{}\n", show_error(&error)));
    };
    for (name, asked) in [
        ("none", "all"),
        ("none", "0"),
        ("none", "nvidia.com/gpu=all"),
        ("mismatch", "all"),
        ("no-uvm", "all"),
        ("wsl", "all"),
        ("one", "1"),
        ("one", "0:0"),
        ("two", "GPU-00000000-0000-0000-0000-000000000000"),
        ("two", "0,MIG-00000000-0000-0000-0000-000000000000"),
        ("partitioned", "0"),
        ("partitioned", "0:2"),
        ("one", "nvidia.com/gpu=0"),
        ("cdi", "2"),
        ("cdi", "MIG-00000000-0000-0000-0000-000000000000"),
        ("cdi", "amd.com/gpu=0"),
        ("amd", "0:1"),
    ] {
        add(name, asked, &host(name));
    }
    let changed = |name: &str, change: &dyn Fn(&mut GpuFacts)| {
        let mut facts = host(name);
        change(facts.gpu.as_mut().unwrap());
        facts
    };
    add("module not loaded", "all", &changed("one", &|gpu| gpu.kernel_driver = None));
    let bare = |gpu: &mut GpuFacts| (gpu.kernel_driver, gpu.user_driver) = (None, None);
    add("no driver", "all", &changed("one", &bare));
    add("no libraries", "all", &changed("one", &|gpu| gpu.user_driver = None));
    add("none driven", "all", &changed("one", &|gpu| gpu.gpus[0].minor = None));
    add("no control node", "all", &changed("one", &|gpu| gpu.nodes.retain(|node| node.minor != 255)));
    add(
        "no node of a GPU",
        "1",
        &changed("two", &|gpu| gpu.nodes.retain(|node| node.path != Path::new("/dev/nvidia1"))),
    );
    add("closed", "all", &changed("one", &|gpu| gpu.nodes[0].accessible = false));
    add("stale", "all", &changed("one", &|gpu| gpu.majors.extend([("nvidia-uvm".to_owned(), 507)])));
    add("no capability", "0:0", &changed("partitioned", &|gpu| gpu.nodes.retain(|node| node.minor != 13)));
    add("no capability number", "0:0", &changed("partitioned", &|gpu| gpu.mig_minors.clear()));
    let nameless = |gpu: &mut GpuFacts| gpu.gpus[0].mig.iter_mut().for_each(|mig| mig.uuid = None);
    let asked = "MIG-2f0e5c7a-1b3d-5e8f-9a0b-c1d2e3f40516";
    add("no UUIDs", asked, &changed("partitioned", &nameless));
    let old = changed("cdi", &|gpu| gpu.kernel_driver = Some("580.105.08".to_owned()));
    add("old CDI file", "all", &old);
    let no_uvm = changed("cdi", &|gpu| gpu.nodes.retain(|node| node.path != Path::new("/dev/nvidia-uvm")));
    add("CDI without uvm", "all", &no_uvm);
    let mut broken = host("none");
    broken
        .cdi
        .push(crate::launch::CdiFile { path: "/etc/cdi/nvidia.yaml".into(), text: "kind: x".to_owned() });
    add("broken file", "all", &broken);
    add("broken file", "nvidia.com/gpu=0", &broken);
    insta::assert_snapshot!(shown.join("\n"));
}

/// All that is wrong is said at once, with what to do about each.
#[test]
fn several_things_are_wrong() {
    let facts = || {
        let mut facts = host("mismatch");
        facts.gpu.as_mut().unwrap().nodes.retain(|node| node.path != Path::new("/dev/nvidia-uvm"));
        facts
    };
    let environment = ["NVIDIA_REQUIRE_CUDA=driver>=9999".to_owned()];
    let image = ImageFacts { environment: &environment, ..image(None) };
    let error = gpus(&GpuRequest::All, &facts(), image).unwrap_err();
    insta::assert_snapshot!(show_error(&error));

    // Those are warnings where the user says so; what is there comes in.
    let plan = gpus_unchecked(&GpuRequest::All, &facts(), image).unwrap();
    let said = error.to_string();
    assert_eq!(
        plan.warnings,
        said.split("; ").map(|said| format!("--ignore-gpu-check: {said}")).collect::<Vec<_>>()
    );
    let mut brought = nodes(&plan);
    brought.sort();
    let nodes = ["/dev/nvidia-modeset", "/dev/nvidia-uvm-tools", "/dev/nvidia0", "/dev/nvidiactl"];
    assert_eq!(brought, nodes);
    assert!(plan.steps.iter().any(|step| step.target().starts_with("/run/mlbuild/nvidia/lib/libcuda.so.")));
}

#[test]
fn what_is_not_there_cannot_be_ignored() {
    let error = |asked: &str, facts: &HostFacts| {
        let checked = plan(asked, facts).unwrap_err();
        assert_eq!(
            gpus_unchecked(&asked.parse().unwrap(), facts, image(Some(&cache()))),
            Err(checked.clone())
        );
        checked
    };
    assert!(matches!(error("all", &host("none")), GpuError::NoGpu { .. }));
    assert!(matches!(error("all", &host("wsl")), GpuError::Wsl));
    assert!(matches!(error("7", &host("two")), GpuError::Unknown { .. }));
    assert!(matches!(error("7", &host("cdi")), GpuError::Cdi(_)));
    let mut facts = host("cdi");
    facts.gpu.as_mut().unwrap().nodes.retain(|node| node.path != Path::new("/dev/nvidia-uvm"));
    assert!(matches!(error("all", &facts), GpuError::MissingNode { .. }));
}

#[test]
fn an_old_cdi_file_all_the_same() {
    let mut facts = host("cdi");
    facts.gpu.as_mut().unwrap().kernel_driver = Some("580.105.08".to_owned());
    let plan = gpus_unchecked(&GpuRequest::All, &facts, image(None)).unwrap();
    let [warning] = plan.warnings.as_slice() else { panic!("{:?}", plan.warnings) };
    assert!(warning.contains("580.95.05") && warning.contains("580.105.08"), "{warning}");
}

#[test]
fn nothing_asked_is_nothing_done() {
    for name in ["none", "one", "cdi", "wsl"] {
        assert_eq!(plan("none", &host(name)).unwrap(), GpuPlan::default());
    }
}

/// Places follow addresses, nodes follow the driver's own numbers.
#[test]
fn the_right_nodes_for_each_way_to_ask() {
    const CONTROL: [&str; 4] =
        ["/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidiactl"];
    for (name, asked, expected) in [
        ("eight", "0", &["/dev/nvidia2"][..]),
        ("eight", "3,2", &["/dev/nvidia0", "/dev/nvidia1"]),
        ("eight", "7,7", &["/dev/nvidia5"]),
        ("two", "GPU-3b7e91d4-5f28-4a6c-b1e9-7c2d8f0a6b53", &["/dev/nvidia1"]),
        ("two", "gpu", &[]),
        ("two", "GPU-3B7E91D4-5F28-4A6C-B1E9-7C2D8F0A6B53,1", &["/dev/nvidia1"]),
        (
            "partitioned",
            "0:1",
            &["/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22", "/dev/nvidia0"],
        ),
        (
            "partitioned",
            "MIG-2f0e5c7a-1b3d-5e8f-9a0b-c1d2e3f40516",
            &["/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13", "/dev/nvidia0"],
        ),
        ("partitioned", "1", &["/dev/nvidia1"]),
        ("cdi", "GPU-8f6d2a1c-90ab-4c1d-8e52-0d1f5a7b3c21", &["/dev/nvidia0"]),
        ("cdi", "nvidia.com/gpu=1", &["/dev/dri/card2", "/dev/dri/renderD129", "/dev/nvidia1"]),
    ] {
        let Ok(request) = asked.parse() else {
            assert!(expected.is_empty());
            continue;
        };
        let mut found = nodes(&gpus(&request, &host(name), image(None)).unwrap());
        found.sort();
        let mut expected: Vec<_> = expected.iter().chain(&CONTROL).map(|node| (*node).to_owned()).collect();
        expected.sort();
        assert_eq!(found, expected, "{name} {asked}");
    }
}

#[test]
fn mig_devices_in_the_environment() {
    let cuda = |asked: &str| {
        let plan = plan(asked, &host("partitioned")).unwrap();
        plan.environment.into_iter().find(|(name, _)| name == "CUDA_VISIBLE_DEVICES").map(|(_, value)| value)
    };
    let (first, second) =
        ("MIG-2f0e5c7a-1b3d-5e8f-9a0b-c1d2e3f40516", "MIG-71a3b5c7-d9e1-5f02-8436-5a7c9e1b3d20");
    assert_eq!(cuda("0:0").as_deref(), Some(first));
    assert_eq!(cuda("0:1,0:0"), Some(format!("{second},{first}")));
    // A whole GPU beside it has another name; CUDA finds both by itself.
    assert_eq!(cuda("0:0,1"), None);
    assert_eq!(cuda("1"), None);
}

/// An instance that has no UUID here is still one that can be named by its place.
#[test]
fn mig_devices_without_uuids() {
    let mut facts = host("partitioned");
    let gpu = facts.gpu.as_mut().unwrap();
    gpu.gpus[0].mig = vec![Mig { gpu_instance: 2, compute_instance: 0, uuid: None }];
    let plan = plan("0:0", &facts).unwrap();
    assert!(nodes(&plan).contains(&"/dev/nvidia-caps/nvidia-cap22".to_owned()));
    assert!(plan.environment.iter().all(|(name, _)| name != "CUDA_VISIBLE_DEVICES"));
}

#[test]
fn the_drivers_libraries_are_found_first() {
    for name in ["one", "cdi"] {
        let entries = cache_of(&plan("0", &host(name)).unwrap());
        let paths = |asked: &str, flags: u32| -> Vec<&str> {
            let found = entries.iter().filter(|entry| entry.name == asked && entry.flags == flags);
            found.map(|entry| entry.path.as_str()).collect()
        };
        let ours = cache_flags(Platform::LinuxAmd64);
        let folder = if name == "one" { "/run/mlbuild/nvidia/lib" } else { "/usr/lib/x86_64-linux-gnu" };
        assert_eq!(paths("libcuda.so.1", ours), [format!("{folder}/libcuda.so.1")], "{name}");
        assert_eq!(paths("libcuda.so", ours), [format!("{folder}/libcuda.so")], "{name}");
        assert_eq!(paths("libnvidia-ml.so.1", ours), [format!("{folder}/libnvidia-ml.so.1")], "{name}");
        // What is the image's stays, and so does what is of another architecture.
        assert_eq!(paths("libc.so.6", ours), ["/lib/x86_64-linux-gnu/libc.so.6"], "{name}");
        assert_eq!(paths("libcuda.so.1", 0x0003), ["/usr/lib/i386-linux-gnu/libcuda.so.1"], "{name}");
    }
}

/// Every path of the driver in the cache is one that the steps make.
#[test]
fn the_cache_names_only_what_is_there() {
    for (name, asked) in [("one", "all"), ("eight", "0"), ("cdi", "all")] {
        let plan = plan(asked, &host(name)).unwrap();
        let made: BTreeSet<&str> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Bind { target, .. } | Step::Symlink { target, .. } => Some(target.as_str()),
                _ => None,
            })
            .collect();
        let image = read_cache(&cache()).unwrap();
        for entry in cache_of(&plan) {
            assert!(made.contains(entry.path.as_str()) || image.contains(&entry), "{entry:?}");
        }
    }
}

#[test]
fn images_without_a_cache_get_a_search_path() {
    let appended = |name: &str, cache: Option<&[u8]>| {
        let plan = gpus(&GpuRequest::All, &host(name), image(cache)).unwrap();
        assert!(!plan.steps.iter().any(|step| matches!(step, Step::Data { .. })));
        let path =
            plan.appended.iter().find(|(name, _)| name == "LD_LIBRARY_PATH").map(|(_, value)| value.clone());
        (path, plan.warnings.len())
    };
    let ours = Some("/run/mlbuild/nvidia/lib".to_owned());
    assert_eq!(appended("one", None), (ours.clone(), 0));
    assert_eq!(appended("one", Some(b"not a cache")), (ours, 1));
    let theirs = Some("/usr/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu/vdpau".to_owned());
    assert_eq!(appended("cdi", None), (theirs, 0));
}

#[test]
fn images_may_need_a_newer_driver() {
    for name in ["one", "cdi"] {
        let asked = |wanted: &str| {
            let environment = [format!("NVIDIA_REQUIRE_CUDA={wanted}")];
            gpus(&GpuRequest::All, &host(name), ImageFacts { environment: &environment, ..image(None) })
        };
        assert!(asked("driver>=580").is_ok());
        assert!(matches!(asked("cuda>=13.1"), Err(GpuError::Requirement { .. })));
    }
    // Another vendor's GPU does not mind.
    let environment = ["NVIDIA_REQUIRE_CUDA=driver>=9999".to_owned()];
    assert!(
        gpus(&GpuRequest::All, &host("amd"), ImageFacts { environment: &environment, ..image(None) }).is_ok()
    );
}

/// Forward compatibility: only for a newer major version than the driver's, and only where the file's hook asks for it.
#[test]
fn compatibility_libraries_of_the_image() {
    let bytes = cache();
    let libcuda = |name: &str, compat: &[&str]| {
        let compat: Vec<_> = compat.iter().map(|name| (*name).to_owned()).collect();
        let image = ImageFacts { compat: &compat, ..image(Some(&bytes)) };
        let plan = gpus(&GpuRequest::All, &host(name), image).unwrap();
        let flags = cache_flags(Platform::LinuxAmd64);
        let found =
            cache_of(&plan).into_iter().find(|entry| entry.name == "libcuda.so.1" && entry.flags == flags);
        found.unwrap().path
    };
    let compat = "/usr/local/cuda/compat/libcuda.so.1";
    let driver = "/usr/lib/x86_64-linux-gnu/libcuda.so.1";
    assert_eq!(libcuda("cdi", &["libcuda.so", "libcuda.so.1", "libcuda.so.590.44.01"]), compat);
    assert_eq!(libcuda("cdi", &["libcuda.so", "libcuda.so.1", "libcuda.so.580.105.08"]), driver);
    assert_eq!(libcuda("cdi", &["libcuda.so.1", "libcuda.so.1.1", "README"]), driver);
    assert_eq!(
        libcuda("one", &["libcuda.so.1", "libcuda.so.590.44.01"]),
        "/run/mlbuild/nvidia/lib/libcuda.so.1"
    );
}

#[test]
fn the_driver_must_not_make_device_nodes() {
    for name in ["one", "cdi"] {
        let plan = plan("all", &host(name)).unwrap();
        let params = plan.steps.iter().find_map(|step| match step {
            Step::File { target, content, .. } if target.ends_with("/params") => Some((target, content)),
            _ => None,
        });
        let (file, content) = params.unwrap();
        assert!(
            content.contains("\nModifyDeviceFiles: 0\n") && !content.contains("ModifyDeviceFiles: 1"),
            "{content}"
        );
        assert!(content.contains("DeviceFileMode: 438\n"));
        let cover = Step::Cover { target: "/proc/driver/nvidia/params".to_owned(), with: file.clone() };
        assert!(plan.steps.contains(&cover));
    }
}

/// What a hook would change the mode of is made with it, before the nodes come in.
#[test]
fn directories_come_before_what_is_in_them() {
    let plan = plan("all", &host("cdi")).unwrap();
    assert_eq!(plan.steps[0], Step::Directory { target: "/dev/dri".to_owned(), mode: 0o755 });
    assert!(nodes(&plan).contains(&"/dev/dri/card1".to_owned()));
}

#[test]
fn groups_need_root() {
    let text = r#"{"cdiVersion": "0.7.0", "kind": "amd.com/gpu", "devices": [
        {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/kfd"}], "additionalGids": [44, 109]}}]}"#;
    let mut facts = host("none");
    facts.cdi.push(crate::launch::CdiFile { path: "/etc/cdi/amd.json".into(), text: text.to_owned() });
    // There is no device `all`.
    let rootless = plan("all", &facts).unwrap();
    assert_eq!(nodes(&rootless), ["/dev/kfd"]);
    assert_eq!((rootless.groups.len(), rootless.warnings.len()), (0, 1), "{:?}", rootless.warnings);
    facts.caller.uid = 0;
    let root = plan("amd.com/gpu=all", &facts).unwrap();
    assert_eq!((root.groups, root.warnings), (vec![44, 109], vec![]));
}

/// Direct discovery steps in where NVIDIA's file cannot be read, and says so.
#[test]
fn a_broken_file_is_a_warning_where_there_is_another_way() {
    let mut facts = host("one");
    facts
        .cdi
        .push(crate::launch::CdiFile { path: "/etc/cdi/nvidia.yaml".into(), text: "kind: x".to_owned() });
    let plan = plan("all", &facts).unwrap();
    assert!(
        plan.warnings.iter().any(|warning| warning.starts_with("not used: CDI file /etc/cdi/nvidia.yaml"))
    );
    assert!(plan.steps.iter().any(|step| *step == Step::Protect { target: DRIVER.to_owned() }));
}

#[test]
fn nvswitches_want_their_manager() {
    let mut facts = host("eight");
    assert_eq!(plan("all", &facts).unwrap().warnings, Vec::<String>::new());
    facts.gpu.as_mut().unwrap().files.retain(|file| !file.ends_with("nvidia-fabricmanager/socket"));
    let warnings = plan("all", &facts).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("nvidia-fabricmanager"), "{warnings:?}");
}

#[test]
fn programs_wherever_they_are() {
    let mut facts = host("one");
    let files =
        ["/usr/lib/nvidia/current/nvidia-smi", "/usr/share/vulkan/icd.d/nvidia_icd.json", "/tmp/nvidia-mps"];
    facts.gpu.as_mut().unwrap().files = files.map(Into::into).into();
    let plan = plan("all", &facts).unwrap();
    let targets: Vec<_> = files
        .iter()
        .map(|file| {
            plan.steps.iter().find_map(|step| match step {
                Step::Bind { target, source, how } if source == Path::new(file) => {
                    Some((target.as_str(), how.read_only))
                }
                _ => None,
            })
        })
        .collect();
    let smi = "/run/mlbuild/nvidia/bin/nvidia-smi";
    assert_eq!(targets, [Some((smi, true)), Some((files[1], true)), Some((files[2], false))]);
    assert_eq!(plan.appended, [("PATH".to_owned(), "/run/mlbuild/nvidia/bin".to_owned())]);
}

/// Names that the host's files have are data: none of them leads out of our directory.
#[test]
fn odd_names_of_libraries() {
    let mut facts = host("one");
    for (path, soname) in [
        ("/usr/lib/libnvidia-a.so.580.95.05", "../../etc/passwd"),
        ("/usr/lib/libnvidia-b.so.580.95.05", "/etc/passwd"),
        ("/usr/lib/libnvidia-c.so.580.95.05", ".."),
        ("/usr/lib/libnvidia-d.so.580.95.05", ""),
        ("/opt/libcuda.so.580.95.05", "libcuda.so.1"),
    ] {
        let library = crate::launch::Library { path: path.into(), soname: Some(soname.to_owned()) };
        facts.gpu.as_mut().unwrap().libraries.push(library);
    }
    let plan = plan("all", &facts).unwrap();
    let mut targets = BTreeSet::new();
    for step in &plan.steps {
        if let Step::Bind { target, .. } | Step::Symlink { target, .. } | Step::File { target, .. } = step {
            assert!(target.starts_with('/') && !target.split('/').any(|part| part == ".."), "{target}");
            assert!(targets.insert(target.clone()), "{target} twice");
        }
        if let Step::Symlink { to, .. } = step {
            assert!(!to.contains('/'), "{to}");
        }
    }
    assert!(cache_of(&plan).iter().all(|entry| !entry.name.contains('/')));
}

#[test]
fn every_fixture_is_used() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts");
    let known = ["none", "one", "two", "eight", "partitioned", "cdi", "mismatch", "no-uvm", "wsl", "amd"];
    for found in std::fs::read_dir(directory).unwrap() {
        let name = found.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_prefix("gpu-") {
            assert!(known.contains(&name.trim_end_matches(".json")), "{name}");
        }
    }
}

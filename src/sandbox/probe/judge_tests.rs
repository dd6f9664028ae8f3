use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::*;

/// Each host of `fixtures/doctor` with what is said of it.
#[test]
fn recorded_hosts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/doctor");
    let mut hosts = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".json") else {
            continue;
        };
        let facts: Facts = serde_json::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut said = String::new();
        for finding in judge(&facts) {
            writeln!(said, "{:?} {}: {}", finding.state, finding.what, finding.detail).unwrap();
            if let Some(fix) = finding.fix {
                writeln!(said, "    fix: {fix}").unwrap();
            }
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(&directory);
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, said));
        hosts += 1;
    }
    assert_eq!(hosts, 9);
}

#[test]
fn whatever_is_wrong_has_a_fix() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/doctor");
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_str().unwrap().ends_with(".json") {
            continue;
        }
        let facts: Facts = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for finding in judge(&facts) {
            assert_eq!(finding.state > State::Ok, finding.fix.is_some(), "{}: {finding:?}", path.display());
        }
    }
}

#[test]
fn releases_of_kernels() {
    assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
    assert_eq!(version("3.10.0-1160.el7.x86_64"), Some((3, 10)));
    assert_eq!(version("6.18"), Some((6, 18)));
    assert_eq!(version("banana"), None);
}

/// The hosts that `run --gpus` is tested with, by name.
fn recorded_gpus() -> Vec<(String, HostFacts)> {
    let names = ["none", "one", "two", "eight", "partitioned", "cdi", "amd", "wsl", "mismatch", "no-uvm"];
    let host = |name: &str| {
        let path = format!("{}/fixtures/hosts/gpu-{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    names.map(|name| (name.to_owned(), host(name))).into()
}

fn facts_of(host: &HostFacts) -> Facts {
    let HostFacts { caller, gpu, cdi, cdi_libraries, .. } = host.clone();
    Facts { caller, gpu, cdi, cdi_libraries, ..Facts::default() }
}

/// Whatever `run --gpus all` would say, for an image that asks for nothing, doctor says, and nothing else.
#[test]
fn doctor_says_what_a_run_would() {
    // Groups can be given by root alone, which a run says.
    let groups = r#"{"cdiVersion": "0.7.0", "kind": "amd.com/gpu", "devices": [
        {"name": "all", "containerEdits": {"deviceNodes": [{"path": "/dev/kfd"}], "additionalGids": [44]}}]}"#;
    let mut hosts = recorded_gpus();
    for uid in [0, 1001] {
        let cdi = vec![crate::launch::CdiFile { path: "/etc/cdi/amd.json".into(), text: groups.to_owned() }];
        let caller = crate::launch::Caller { uid, gid: uid, ..Default::default() };
        hosts.push((format!("groups of {uid}"), HostFacts { caller, cdi, ..HostFacts::default() }));
    }
    let mut broken = hosts[1].1.clone();
    broken.cdi.push(crate::launch::CdiFile { path: "/etc/cdi/a.yaml".into(), text: "kind: x".to_owned() });
    hosts.push(("broken file".to_owned(), broken));
    for (name, host) in hosts {
        let image = ImageFacts { platform: Platform::HOST, ld_so_cache: None, compat: &[], environment: &[] };
        let finding = gpus(&facts_of(&host));
        match gpu::gpus(&GpuRequest::All, &host, image) {
            Ok(plan) => {
                assert_eq!(finding.state, State::Ok, "{name}");
                let (_, said) = finding.detail.split_once("; ").unwrap_or_default();
                assert_eq!(said, plan.warnings.join("; "), "{name}");
            }
            Err(GpuError::NoGpu { broken }) if broken.is_empty() => {
                assert!(finding.detail.contains("no GPU that mlbuild knows of"), "{name}");
            }
            Err(error) => {
                assert_eq!(finding.state, State::Limited, "{name}");
                assert_eq!(finding.detail, error.to_string(), "{name}");
                assert_eq!(finding.fix, Some(error.hints().join("; ")), "{name}");
            }
        }
    }
}

#[test]
fn gpus_of_recorded_hosts() {
    let mut said = String::new();
    for (name, host) in recorded_gpus() {
        let finding = gpus(&facts_of(&host));
        writeln!(said, "{name}: {:?}: {}", finding.state, finding.detail).unwrap();
        if let Some(fix) = finding.fix {
            writeln!(said, "    fix: {fix}").unwrap();
        }
    }
    insta::assert_snapshot!(said);
}

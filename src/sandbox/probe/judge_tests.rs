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

/// The hosts that `run --gpus` is tested with.
#[test]
fn gpus_of_recorded_hosts() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts");
    let mut said = String::new();
    for name in ["none", "one", "two", "eight", "partitioned", "cdi", "amd", "wsl", "mismatch", "no-uvm"] {
        let text = fs::read_to_string(directory.join(format!("gpu-{name}.json"))).unwrap();
        let host: HostFacts = serde_json::from_str(&text).unwrap();
        let facts =
            Facts { gpu: host.gpu, cdi: host.cdi, cdi_libraries: host.cdi_libraries, ..Facts::default() };
        let finding = gpus(&facts);
        writeln!(said, "{name}: {:?}: {}", finding.state, finding.detail).unwrap();
        if let Some(fix) = finding.fix {
            writeln!(said, "    fix: {fix}").unwrap();
        }
    }
    insta::assert_snapshot!(said);
}

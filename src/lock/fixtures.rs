//! A small lock with a bit of everything, for the tests of this module.

use super::model::{
    DebLayer, DebLock, Dependency, InputLock, Inputs, Lock, PackageLock, PythonArchive, PythonLock,
    SuiteLock, WheelLock,
};
use super::{LockError, read, write};
use crate::digest::Digest;
use crate::oci::Platform::{self, LinuxAmd64, LinuxArm64};
use crate::spec::model::PythonProvider;

/// The rules that the reader says a lock breaks, once it is text.
pub(super) fn broken_rules(lock: &Lock) -> Vec<String> {
    match read(&write(lock)) {
        Err(LockError::Rules(violations)) => violations.iter().map(ToString::to_string).collect(),
        other => panic!("expected broken rules, got {other:?}"),
    }
}

pub(super) fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(super) fn deb(name: &str, platform: Platform, depends: &[&str]) -> DebLock {
    DebLock {
        name: name.to_owned(),
        version: "1:2.3-4+deb12u1".to_owned(),
        platform,
        architecture: platform.architecture().to_owned(),
        source: name.to_owned(),
        archive: "debian".to_owned(),
        filename: format!("pool/main/x/{name}_2.3-4+deb12u1_{}.deb", platform.architecture()),
        size: 1234,
        sha256: Digest::of(format!("{name}{platform}")),
        layer: DebLayer::Base,
        depends: texts(depends),
    }
}

pub(super) fn wheel(name: &str, platforms: &[Platform]) -> WheelLock {
    WheelLock {
        name: name.to_owned(),
        url: format!("https://files.example/packages/{name}"),
        size: 5678,
        sha256: Digest::of(name),
        hashed_by_us: false,
        platforms: platforms.to_vec(),
    }
}

pub(super) fn edge(name: &str, version: &str, platforms: &[Platform]) -> Dependency {
    Dependency { name: name.to_owned(), version: version.to_owned(), platforms: platforms.to_vec() }
}

pub(super) fn lock() -> Lock {
    let archive = |platform: Platform| PythonArchive {
        platform,
        name: format!("cpython-3.12.8+20261101-{}.tar.gz", platform.machine()),
        url: format!("https://pbs.example/cpython-3.12.8%2B20261101-{}.tar.gz", platform.machine()),
        size: 30_000_000,
        sha256: Digest::of(platform.as_str()),
    };
    let package = |name: &str, version: &str, wheels: Vec<WheelLock>| PackageLock {
        name: name.to_owned(),
        version: version.to_owned(),
        index: Some("https://index.example/simple".to_owned()),
        requested: false,
        dependencies: Vec::new(),
        wheels,
    };
    let numpy = vec![
        wheel("numpy-2.1.0-cp312-cp312-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", &[LinuxArm64]),
        wheel("numpy-2.1.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", &[LinuxAmd64]),
    ];
    let mut pandas = package(
        "pandas",
        "2.3.3",
        vec![
            wheel("pandas-2.3.3-cp312-cp312-manylinux_2_17_aarch64.whl", &[LinuxArm64]),
            wheel("pandas-2.3.3-cp312-cp312-manylinux_2_17_x86_64.whl", &[LinuxAmd64]),
        ],
    );
    pandas.requested = true;
    pandas.dependencies = vec![edge("numpy", "2.1.0", &[]), edge("ruamel-yaml", "0.18", &[LinuxAmd64])];
    let mut yaml =
        package("ruamel-yaml", "0.18", vec![wheel("ruamel.yaml-0.18-1-py3-none-any.whl", &[LinuxAmd64])]);
    yaml.index = None;
    yaml.wheels[0].hashed_by_us = true;
    yaml.wheels[0].url = "file:///srv/wheels/ruamel.yaml-0.18-1-py3-none-any.whl".to_owned();
    Lock {
        inputs: Inputs {
            platforms: vec![LinuxAmd64, LinuxArm64],
            base: "debian:bookworm".to_owned(),
            snapshot: Some("20261101T000000Z".to_owned()),
            debian_packages: texts(&["libgomp1"]),
            python: Some("3.12".to_owned()),
            python_provider: Some(PythonProvider::Standalone),
            requirements: texts(&["pandas>=2", "ruamel-yaml; platform_machine == \"x86_64\""]),
            constraints: texts(&["numpy<3"]),
            indexes: texts(&["corp https://index.example/simple explicit pandas"]),
            exclude_newer: None,
            prerelease: None,
            prefer: texts(&["pandas", "numpy"]),
            prune: texts(&["tests"]),
            wheels: Vec::new(),
            locks: vec![InputLock {
                path: "uv.lock".to_owned(),
                sha256: Digest::of("uv.lock"),
                extras: texts(&["gpu"]),
                groups: Vec::new(),
            }],
        },
        bases: Vec::new(),
        suites: vec![SuiteLock {
            archive: "debian".to_owned(),
            suite: "bookworm".to_owned(),
            date: "2026-11-01T00:00:00Z".to_owned(),
            inrelease: Digest::of("InRelease"),
            signed_by: vec!["4D64FEC119C2029067D6E791F8D2585B8783D481".to_owned()],
        }],
        python: Some(PythonLock {
            provider: PythonProvider::Standalone,
            version: "3.12.8".to_owned(),
            build: Some("20261101".to_owned()),
            executable: "/opt/python/bin/python3.12".to_owned(),
            site_packages: "/opt/python/lib/python3.12/site-packages".to_owned(),
            scripts: "/opt/python/bin".to_owned(),
            prefix: "/opt/python".to_owned(),
            archives: vec![archive(LinuxAmd64), archive(LinuxArm64)],
        }),
        debs: vec![
            deb("libc6", LinuxAmd64, &[]),
            deb("libc6", LinuxArm64, &[]),
            deb("libgomp1", LinuxAmd64, &["libc6"]),
            deb("libgomp1", LinuxArm64, &["libc6"]),
        ],
        packages: vec![package("numpy", "2.1.0", numpy), pandas, yaml],
        seals: Vec::new(),
    }
}

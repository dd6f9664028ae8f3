//! The interpreter that wheels are chosen for, described by hand: markers (PEP 508) and tags (PEP 425, 600).
//!
//! What no image can promise is empty: `platform_release` and `platform_version` are the running kernel's.

use std::str::FromStr;

use uv_distribution_filename::{BuildTag, WheelFilename};
use uv_normalize::{ExtraName, GroupName};
use uv_pep440::{Version, VersionSpecifiers};
use uv_pep508::{MarkerEnvironment, MarkerEnvironmentBuilder, MarkerTree};
use uv_platform_tags::{Arch, Os, Platform as TagPlatform, TagCompatibility, TagPriority, Tags, TagsOptions};

use crate::oci::Platform;

/// One platform with one exact Python.
pub struct Target {
    pub(super) version: Version,
    pub(super) markers: MarkerEnvironment,
    pub(super) tags: Tags,
}

/// How well a wheel fits; greater is better.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fit {
    priority: TagPriority,
    build: Option<BuildTag>,
}

impl Target {
    pub fn new(platform: Platform, python: &str, glibc: (u16, u16)) -> Result<Self, String> {
        let wrong = || format!("`{python}` is not a full Python version such as `3.11.2`");
        let version = Version::from_str(python).map_err(|_| wrong())?;
        let &[major, minor, _] = &*version.release() else { return Err(wrong()) };
        let short = (u8::try_from(major).map_err(|_| wrong())?, u8::try_from(minor).map_err(|_| wrong())?);
        let python_version = format!("{major}.{minor}");
        let markers = MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
            implementation_name: "cpython",
            implementation_version: python,
            os_name: "posix",
            platform_machine: platform.machine(),
            platform_python_implementation: "CPython",
            platform_release: "",
            platform_system: "Linux",
            platform_version: "",
            python_full_version: python,
            python_version: &python_version,
            sys_platform: "linux",
        })
        .map_err(|error| error.to_string())?;
        let arch = match platform {
            Platform::LinuxAmd64 => Arch::X86_64,
            Platform::LinuxArm64 => Arch::Aarch64,
        };
        let tags = Tags::from_env(
            TagPlatform::new(Os::Manylinux { major: glibc.0, minor: glibc.1 }, arch),
            short,
            "cpython",
            short,
            TagsOptions {
                manylinux_compatible: true,
                gil_disabled: false,
                debug_enabled: false,
                is_cross: true,
            },
        )
        .map_err(|error| error.to_string())?;
        Ok(Self { version, markers, tags })
    }

    /// Whether a marker holds, given extras and dependency groups (PEP 751 names both).
    pub fn holds(&self, marker: &str, extras: &[String], groups: &[String]) -> Result<bool, String> {
        let tree = MarkerTree::from_str(marker)
            .map_err(|error| format!("`{marker}` is not a marker: {}", error.message))?;
        let named = |extra: &String| ExtraName::from_str(extra).map_err(|error| error.to_string());
        let extras = extras.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        if marker.contains("extras") || marker.contains("dependency_groups") {
            let named = |group: &String| GroupName::from_str(group).map_err(|error| error.to_string());
            let groups = groups.iter().map(named).collect::<Result<Vec<_>, _>>()?;
            return Ok(tree.evaluate_pep751(&self.markers, &extras, &groups));
        }
        Ok(tree.evaluate(&self.markers, &extras))
    }

    /// Whether `specifiers` (a `requires-python`) allow this Python.
    pub fn python_satisfies(&self, specifiers: &str) -> Result<bool, String> {
        let parsed = VersionSpecifiers::from_str(specifiers).map_err(|error| error.to_string())?;
        Ok(parsed.contains(&self.version))
    }

    /// How well the wheel of this file name fits; nothing when it does not load here.
    pub fn fit(&self, file_name: &str) -> Result<Option<Fit>, String> {
        let wheel = WheelFilename::from_str(file_name).map_err(|error| error.to_string())?;
        Ok(match wheel.compatibility(&self.tags) {
            TagCompatibility::Compatible(priority) => {
                Some(Fit { priority, build: wheel.build_tag().cloned() })
            }
            TagCompatibility::Incompatible(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_fit_by_python_libc_and_machine() {
        let amd64 = Target::new(Platform::LinuxAmd64, "3.11.2", (2, 36)).unwrap();
        let arm64 = Target::new(Platform::LinuxArm64, "3.11.2", (2, 36)).unwrap();
        for (name, on_amd64, on_arm64) in [
            ("a-1-py3-none-any.whl", true, true),
            ("a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", true, false),
            ("a-1-cp311-cp311-manylinux_2_36_aarch64.whl", false, true),
            ("a-1-cp311-cp311-manylinux_2_38_x86_64.whl", false, false),
            ("a-1-cp312-cp312-manylinux_2_17_x86_64.whl", false, false),
            ("a-1-cp38-abi3-manylinux_2_17_x86_64.whl", true, false),
            ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", false, false),
            ("a-1-cp311-cp311-win_amd64.whl", false, false),
        ] {
            assert_eq!(amd64.fit(name).unwrap().is_some(), on_amd64, "{name}");
            assert_eq!(arm64.fit(name).unwrap().is_some(), on_arm64, "{name}");
        }
        let fit = |name: &str| amd64.fit(name).unwrap().unwrap();
        assert!(
            fit("a-1-cp311-cp311-manylinux_2_28_x86_64.whl") > fit("a-1-cp39-abi3-manylinux_2_28_x86_64.whl")
        );
        assert!(fit("a-1-cp39-abi3-manylinux_2_28_x86_64.whl") > fit("a-1-py3-none-any.whl"));
        assert!(fit("a-1-10-py3-none-any.whl") > fit("a-1-9-py3-none-any.whl"));
        assert!(amd64.fit("no wheel").is_err());
    }

    #[test]
    fn markers_are_those_of_the_image() {
        let target = Target::new(Platform::LinuxArm64, "3.11.2", (2, 36)).unwrap();
        let none: &[String] = &[];
        let cuda = ["cuda".to_owned()];
        for (marker, extras, groups, expected) in [
            ("sys_platform == 'linux' and platform_machine == 'aarch64'", none, none, true),
            ("platform_machine == 'x86_64'", none, none, false),
            ("python_full_version < '3.11.3'", none, none, true),
            ("extra == 'cuda'", none, none, false),
            ("extra == 'cuda'", &cuda[..], none, true),
            ("'cuda' in extras", &cuda[..], none, true),
            ("'cuda' in dependency_groups", &cuda[..], none, false),
            ("'cuda' in dependency_groups", none, &cuda[..], true),
        ] {
            assert_eq!(target.holds(marker, extras, groups), Ok(expected), "{marker}");
        }
        assert!(target.holds("python_version <", none, none).is_err());
        assert_eq!(target.python_satisfies(">=3.11, <3.12"), Ok(true));
        assert_eq!(target.python_satisfies(">=3.12"), Ok(false));
        for wrong in ["3.11", "x", "3.999.1", "3.11.2.1"] {
            assert!(Target::new(Platform::LinuxAmd64, wrong, (2, 36)).is_err(), "{wrong}");
        }
    }
}

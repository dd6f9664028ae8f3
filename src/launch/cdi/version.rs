//! Which version of the specification brought what a file uses.

use super::check::Invalid;
use super::model::Specification;

/// Versions in order. 0.1.0 and 0.2.0 are known and too old to be used.
const VERSIONS: [&str; 10] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];
const OLDEST: &str = "0.3.0";

pub(super) fn check(specification: &Specification) -> Result<(), Invalid> {
    let said = specification.cdi_version.strip_prefix('v').unwrap_or(&specification.cdi_version);
    let refuse = |rule: String| Err(Invalid { field: "cdiVersion".to_owned(), rule });
    let Some(version) = place(said) else {
        return refuse(format!("is `{said}`, which is none of {OLDEST} to {}", VERSIONS[VERSIONS.len() - 1]));
    };
    let needed = needed(specification).into_iter().max_by_key(|(version, _)| place(version));
    match needed {
        Some((needed, field)) if place(needed) > Some(version) => {
            refuse(format!("is {said}, but `{field}` needs {needed}"))
        }
        _ if version < place(OLDEST).expect("it is in the list") => {
            refuse(format!("is {said}, the oldest that can be used is {OLDEST}"))
        }
        _ => Ok(()),
    }
}

fn place(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|known| *known == version)
}

/// Each thing used that the first version did not have, with the version that brought it.
fn needed(specification: &Specification) -> Vec<(&'static str, String)> {
    let mut needed = Vec::new();
    if !specification.annotations.is_empty() {
        needed.push(("0.6.0", "annotations".to_owned()));
    }
    if specification.kind.split_once('/').is_some_and(|(_, class)| class.contains('.')) {
        needed.push(("0.6.0", "kind".to_owned()));
    }
    for (at, device) in specification.devices.iter().enumerate() {
        if device.name.starts_with(|c: char| c.is_ascii_digit()) {
            needed.push(("0.5.0", format!("devices[{at}].name")));
        }
        if !device.annotations.is_empty() {
            needed.push(("0.6.0", format!("devices[{at}].annotations")));
        }
    }
    for (field, edits) in specification.all_edits() {
        for (at, mount) in edits.mounts.iter().enumerate() {
            if mount.r#type.as_deref().is_some_and(|kind| !kind.is_empty()) {
                needed.push(("0.4.0", format!("{field}.mounts[{at}].type")));
            }
        }
        for (at, node) in edits.device_nodes.iter().enumerate() {
            if node.host_path.as_deref().is_some_and(|path| !path.is_empty()) {
                needed.push(("0.5.0", format!("{field}.deviceNodes[{at}].hostPath")));
            }
        }
        if !edits.additional_gids.is_empty() {
            needed.push(("0.7.0", format!("{field}.additionalGids")));
        }
        if let Some(rdt) = &edits.intel_rdt {
            match rdt.schemata.is_some() || rdt.enable_monitoring == Some(true) {
                true => needed.push(("1.1.0", format!("{field}.intelRdt"))),
                false => needed.push(("0.7.0", format!("{field}.intelRdt"))),
            }
        }
        if !edits.net_devices.is_empty() {
            needed.push(("1.1.0", format!("{field}.netDevices")));
        }
    }
    needed
}

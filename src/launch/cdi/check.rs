//! The rules of the specification that a well-formed file may still break.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{DeviceNode, Edits, Hook, IntelRdt, Mount, NetDevice, Specification};
use super::name::{self, Kind};
use super::path::normal;

/// Bytes of all annotations of one object together, as Kubernetes bounds them.
const ANNOTATIONS_MAX: usize = 256 * 1024;
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A field and the rule that it breaks, the rest of a sentence.
#[derive(Debug)]
pub(super) struct Invalid {
    pub field: String,
    pub rule: String,
}

fn invalid<T>(field: impl Into<String>, rule: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field: field.into(), rule: rule.into() })
}

pub(super) fn check(specification: &Specification) -> Result<(), Invalid> {
    if let Err(rule) = Kind::parse(&specification.kind) {
        return invalid("kind", rule);
    }
    annotations("annotations", &specification.annotations)?;
    if specification.devices.is_empty() {
        return invalid("devices", "is empty");
    }
    let mut seen = BTreeSet::new();
    for (at, device) in specification.devices.iter().enumerate() {
        let field = format!("devices[{at}]");
        if let Err(rule) = name::device(&device.name) {
            return invalid(format!("{field}.name"), rule);
        }
        if !seen.insert(&device.name) {
            return invalid(format!("{field}.name"), format!("is `{}`, as is another device's", device.name));
        }
        annotations(&format!("{field}.annotations"), &device.annotations)?;
        if device.container_edits == Edits::default() {
            return invalid(format!("{field}.containerEdits"), "is empty");
        }
    }
    specification.all_edits().try_for_each(|(field, all)| edits(&field, all))
}

fn edits(field: &str, edits: &Edits) -> Result<(), Invalid> {
    environment(&format!("{field}.env"), &edits.env)?;
    each(field, "deviceNodes", &edits.device_nodes, device_node)?;
    each(field, "mounts", &edits.mounts, mount)?;
    each(field, "hooks", &edits.hooks, hook)?;
    if let Some(rdt) = &edits.intel_rdt {
        intel_rdt(&format!("{field}.intelRdt"), rdt)?;
    }
    each(field, "netDevices", &edits.net_devices, net_device)?;
    for (name, values) in [
        ("hostInterfaceName", edits.net_devices.iter().map(|device| &device.host_interface_name).collect()),
        ("name", edits.net_devices.iter().map(|device| &device.name).collect::<Vec<_>>()),
    ] {
        let mut seen = BTreeSet::new();
        if let Some(at) = values.iter().position(|value| !seen.insert(*value)) {
            let rule = format!("is `{}`, as is another one's", values[at]);
            return invalid(format!("{field}.netDevices[{at}].{name}"), rule);
        }
    }
    Ok(())
}

fn each<T>(
    field: &str,
    name: &str,
    items: &[T],
    check: impl Fn(&str, &T) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    items.iter().enumerate().try_for_each(|(at, item)| check(&format!("{field}.{name}[{at}]"), item))
}

fn environment(field: &str, all: &[String]) -> Result<(), Invalid> {
    for (at, variable) in all.iter().enumerate() {
        if variable.find('=').is_none_or(|at| at == 0) || variable.contains('\0') {
            return invalid(format!("{field}[{at}]"), format!("is `{variable}`, not NAME=value"));
        }
    }
    Ok(())
}

fn path(field: String, path: &str) -> Result<(), Invalid> {
    normal(path).map(drop).or_else(|rule| invalid(field, rule))
}

fn device_node(field: &str, node: &DeviceNode) -> Result<(), Invalid> {
    path(format!("{field}.path"), &node.path)?;
    if let Some(host) = node.host_path.as_deref().filter(|host| !host.is_empty()) {
        path(format!("{field}.hostPath"), host)?;
    }
    if let Some(kind) = &node.r#type
        && !matches!(kind.as_str(), "" | "b" | "c" | "u" | "p")
    {
        return invalid(format!("{field}.type"), format!("is `{kind}`, none of b, c, u and p"));
    }
    if let Some(permissions) = &node.permissions
        && !permissions.chars().all(|bit| matches!(bit, 'r' | 'w' | 'm'))
    {
        return invalid(format!("{field}.permissions"), format!("is `{permissions}`, not of r, w and m"));
    }
    Ok(())
}

fn mount(field: &str, mount: &Mount) -> Result<(), Invalid> {
    // What is mounted at a tmpfs is a word, not a path.
    match mount.r#type.as_deref() {
        Some("tmpfs") if mount.host_path.is_empty() => {
            return invalid(format!("{field}.hostPath"), "is empty");
        }
        Some("tmpfs") => {}
        _ => path(format!("{field}.hostPath"), &mount.host_path)?,
    }
    path(format!("{field}.containerPath"), &mount.container_path)
}

fn hook(field: &str, hook: &Hook) -> Result<(), Invalid> {
    if !HOOKS.contains(&hook.hook_name.as_str()) {
        let rule = format!("is `{}`, none of {}", hook.hook_name, HOOKS.join(", "));
        return invalid(format!("{field}.hookName"), rule);
    }
    path(format!("{field}.path"), &hook.path)?;
    if hook.timeout.is_some_and(|seconds| seconds <= 0) {
        return invalid(format!("{field}.timeout"), "is not greater than 0");
    }
    environment(&format!("{field}.env"), &hook.env)
}

fn intel_rdt(field: &str, rdt: &IntelRdt) -> Result<(), Invalid> {
    let is_file_name =
        |name: &str| name.len() < 4096 && !matches!(name, "." | "..") && !name.contains(['/', '\n']);
    match &rdt.clos_id {
        Some(name) if !is_file_name(name) => invalid(format!("{field}.closID"), "is not the name of a file"),
        _ => Ok(()),
    }
}

fn net_device(field: &str, device: &NetDevice) -> Result<(), Invalid> {
    if device.host_interface_name.is_empty() {
        return invalid(format!("{field}.hostInterfaceName"), "is empty");
    }
    match device.name.is_empty() {
        true => invalid(format!("{field}.name"), "is empty"),
        false => Ok(()),
    }
}

fn annotations(field: &str, annotations: &BTreeMap<String, String>) -> Result<(), Invalid> {
    for key in annotations.keys() {
        if !is_annotation_key(&key.to_ascii_lowercase()) {
            return invalid(field, format!("has the key `{key}`, which is no qualified name"));
        }
    }
    match annotations.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() {
        0..=ANNOTATIONS_MAX => Ok(()),
        _ => invalid(field, format!("has more than {ANNOTATIONS_MAX} bytes")),
    }
}

/// Kubernetes' qualified names: `name` or `dns.prefix/name`.
fn is_annotation_key(key: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let name_is_good = (1..=63).contains(&name.len())
        && name.starts_with(alphanumeric)
        && name.ends_with(alphanumeric)
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let prefix_is_good = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && prefix.split('.').all(|label| {
                label.starts_with(alphanumeric)
                    && label.ends_with(alphanumeric)
                    && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            })
    });
    name_is_good && prefix_is_good
}

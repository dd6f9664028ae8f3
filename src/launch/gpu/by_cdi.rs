//! GPUs as CDI files describe them.

use std::collections::BTreeSet;

use super::direct::{fixed_params, node};
use super::error::GpuError;
use super::linker::{self, Library};
use super::require;
use super::{DRIVER, GpuPlan, ImageFacts, nvidia};
use crate::launch::cdi::{Changes, QualifiedName, Registry};
use crate::launch::{FileSystem, GpuFacts, HostFacts, Step};

const PROFILE: &str = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";

pub fn plan(
    registry: &Registry,
    names: &[QualifiedName],
    facts: &HostFacts,
    image: ImageFacts<'_>,
) -> Result<GpuPlan, GpuError> {
    let mut changes = Changes::of(registry, names)?;
    let nvidias = names.iter().any(|name| name.kind == nvidia());
    let mut problems = Vec::new();
    if let Some(host) = &facts.gpu
        && let Some(driver) = &host.kernel_driver
    {
        check(&changes, host, driver, &mut problems)?;
        problems.dedup();
        if nvidias {
            problems.extend(require::check(image.environment, driver).err());
        }
    }
    let mut plan = GpuPlan {
        environment: std::mem::take(&mut changes.environment),
        warnings: std::mem::take(&mut changes.warnings),
        problems,
        ..GpuPlan::default()
    };
    plan.steps.append(&mut changes.directories);
    plan.steps.extend(changes.nodes.iter().cloned());
    plan.steps.extend(changes.mounts.iter().cloned());
    let libraries = links(&mut plan, &changes, facts);
    linker_cache(&mut plan, &changes, libraries, image);
    if changes.fixed_device_nodes
        && let Some(params) = facts.gpu.as_ref().and_then(|gpu| gpu.params.as_deref())
    {
        let what = FileSystem::Tmpfs { size: Some(1 << 20), mode: 0o755, no_exec: true };
        plan.steps.push(Step::Mount { target: DRIVER.to_owned(), what });
        plan.steps.extend(fixed_params(params));
        plan.steps.push(Step::Protect { target: DRIVER.to_owned() });
    }
    if changes.application_profile {
        plan.steps.extend(application_profile(&changes));
    }
    if nvidias && !plan.environment.iter().any(|(name, _)| name == "NVIDIA_VISIBLE_DEVICES") {
        // As the toolkit's newer files say themselves.
        plan.environment.push(("NVIDIA_VISIBLE_DEVICES".to_owned(), "void".to_owned()));
    }
    groups(&mut plan, &changes, facts);
    Ok(plan)
}

/// What the driver needs is looked at where it is the host's own: a file may be older than the driver. A node that the file
/// names must be there.
fn check(
    changes: &Changes,
    host: &GpuFacts,
    kernel: &str,
    problems: &mut Vec<GpuError>,
) -> Result<(), GpuError> {
    for step in changes.mounts.iter().chain(&changes.nodes) {
        let Step::Bind { source, .. } = step else { continue };
        let name = source.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name.strip_prefix("libcuda.so.") {
            // `libcuda.so.1` says nothing.
            Some(cdi) if cdi.contains('.') && cdi != kernel => {
                problems.push(GpuError::OldCdi { kernel: kernel.to_owned(), cdi: cdi.to_owned() });
            }
            _ if source.starts_with("/dev") && name.starts_with("nvidia") => match node(host, source) {
                Err(missing @ GpuError::MissingNode { .. }) => return Err(missing),
                found => problems.extend(found.err()),
            },
            _ => {}
        }
    }
    Ok(())
}

/// Links of `create-symlinks`, and those named by sonames; what the linker finds by their names.
fn links(plan: &mut GpuPlan, changes: &Changes, facts: &HostFacts) -> Vec<(String, String)> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for step in &changes.mounts {
        if let Step::Bind { target, .. } = step {
            taken.insert(target.clone());
        }
    }
    // Directory and name of what is looked up.
    let mut found = Vec::new();
    for link in &changes.links {
        if taken.insert(link.path.clone()) {
            plan.steps.push(Step::Symlink { target: link.path.clone(), to: link.to.clone() });
        }
        if let Some((folder, name)) = link.path.rsplit_once('/')
            && name.starts_with("lib")
            && name.ends_with(".so")
        {
            found.push((folder.to_owned(), name.to_owned()));
        }
    }
    for (source, target) in changes.files_in(&changes.soname_folders) {
        let Some(library) = facts.cdi_libraries.iter().find(|library| library.path == source) else {
            continue;
        };
        let Some((folder, name)) = target.rsplit_once('/') else { continue };
        let soname = library.soname.as_deref().filter(|soname| !soname.contains('/') && !soname.is_empty());
        let soname = soname.unwrap_or(name);
        let path = format!("{folder}/{soname}");
        if soname != name && taken.insert(path.clone()) {
            plan.steps.push(Step::Symlink { target: path, to: name.to_owned() });
        }
        found.push((folder.to_owned(), soname.to_owned()));
    }
    found
}

fn linker_cache(plan: &mut GpuPlan, changes: &Changes, found: Vec<(String, String)>, image: ImageFacts<'_>) {
    let folders = &changes.linker_folders;
    let mut libraries = Vec::new();
    for (folder, name) in found {
        let path = format!("{folder}/{name}");
        if folders.contains(&folder) && !libraries.iter().any(|other: &Library| other.name == name) {
            libraries.push(Library { name, path });
        }
    }
    if let Some(driver) = &changes.compatibility {
        linker::prefer_compat(&mut libraries, driver, image);
    }
    linker::find(plan, &libraries, folders, image);
}

/// A mask of the GPUs' minor numbers, as NVIDIA's hook writes it.
fn application_profile(changes: &Changes) -> Option<Step> {
    let minors = changes.nodes.iter().filter_map(|step| match step {
        Step::Bind { target, .. } => target.strip_prefix("/dev/nvidia")?.parse::<u32>().ok(),
        _ => None,
    });
    let mask = minors.filter(|minor| *minor < 64).fold(0_u64, |mask, minor| mask | 1 << minor);
    let content = format!(
        "{{\"profiles\":[{{\"name\":\"_container_\",\"settings\":[\"EGLVisibleDGPUDevices\",{mask:#x}]}}],\
         \"rules\":[{{\"pattern\":[],\"profile\":\"_container_\"}}]}}"
    );
    (mask != 0).then(|| Step::File { target: PROFILE.to_owned(), mode: 0o444, content })
}

/// Only root may give a process groups that its caller is not in.
fn groups(plan: &mut GpuPlan, changes: &Changes, facts: &HostFacts) {
    if facts.caller.uid == 0 {
        plan.groups.clone_from(&changes.groups);
    } else if !changes.groups.is_empty() {
        let groups: Vec<_> = changes.groups.iter().map(u32::to_string).collect();
        plan.warnings.push(format!(
            "the CDI file asks for the groups {}: without root the sandbox has those of them that the caller is in",
            groups.join(", ")
        ));
    }
}

//! Layer keys: everything that decides a layer's bytes, and what the lock says of its files and is compared with them
//! when the layer is made. A line of the lock that is changed is thus compared again, although the layer is known.

use super::{Plan, PlannedWheel};
use crate::debian::EMULATION;
use crate::digest::Digest;
use crate::layer::key::KeyBuilder;
use crate::lock::model::{BaseDirectory, BaseLayer, DebLayer, PythonArchive};
use crate::spec::model::{Prune, Suite};
use crate::wheel::{INSTALL, Scheme};

pub(super) fn debian(plan: &Plan, suite: Suite, layer: DebLayer) -> Digest {
    let kind = match layer {
        DebLayer::Base => "debian-base",
        DebLayer::Python => "debian-python",
    };
    let mut key = KeyBuilder::new(kind)
        .field("epoch", plan.epoch.0)
        .field("emulation", EMULATION)
        .field("suite", suite.as_str())
        .field("platform", plan.platform);
    // The Python part also depends on the base: what is there already is left out, the linker's cache covers both.
    for deb in plan.debs_of(layer) {
        key = key
            .field(if deb.layer == DebLayer::Base { "base" } else { "python" }, deb.sha256)
            .field("name", &deb.name)
            .field("version", &deb.version);
    }
    key.finish()
}

/// A layer that is there: its own digest says all, and the rest is what the lock says of it.
pub fn oci(layer: &BaseLayer) -> Digest {
    KeyBuilder::new("oci")
        .field("layer", layer.digest)
        .field("size", layer.size)
        .field("diff-id", layer.diff_id)
        .field("media-type", layer.media_type.as_str())
        .finish()
}

pub(super) fn standalone(plan: &Plan, archive: &PythonArchive) -> Digest {
    KeyBuilder::new("standalone")
        .field("epoch", plan.epoch.0)
        .field("compose", crate::python::COMPOSE)
        .field("archive", archive.sha256)
        .finish()
}

/// Where and how wheels are installed.
fn rules(kind: &str, plan: &Plan) -> KeyBuilder {
    let Prune { tests, headers, static_libraries, stubs } = plan.prune;
    let prune = format!("tests={tests} headers={headers} static-libraries={static_libraries} stubs={stubs}");
    let mut key =
        KeyBuilder::new(kind).field("epoch", plan.epoch.0).field("install", INSTALL).field("prune", prune);
    if let Some(Scheme { site_packages, scripts, prefix, executable, python }) = &plan.scheme {
        key = key
            .field("site-packages", site_packages)
            .field("scripts", scripts)
            .field("prefix", prefix)
            .field("executable", executable)
            .field("python", format!("{}.{}", python.0, python.1));
    }
    for BaseDirectory { path, mode, owner } in &plan.directories {
        key = key
            .field("directory", path)
            .field("mode", mode)
            .field("owner", format!("{}:{}", owner.0, owner.1));
    }
    key
}

fn add(key: KeyBuilder, wheel: &PlannedWheel) -> KeyBuilder {
    let key = key.field("wheel", wheel.sha256).field("file", &wheel.file);
    wheel.allow.iter().fold(key, |key, rule| key.field("allow", rule.as_str()))
}

pub(super) fn wheel_set(plan: &Plan, wheels: &[PlannedWheel]) -> Digest {
    let key = plan.prefer.iter().fold(rules("wheel-set", plan), |key, name| key.field("prefer", name));
    wheels.iter().fold(key, add).finish()
}

pub(super) fn wheels(plan: &Plan, wheels: &[PlannedWheel]) -> Digest {
    let sized = |key, wheel: &PlannedWheel| add(key, wheel).field("size", wheel.size);
    let mut key = wheels.iter().fold(rules("wheels", plan), sized);
    // Which paths a preference takes from a wheel depends on all the others; it is rare, so no finer key is needed.
    if !plan.prefer.is_empty() {
        key = key.field("among", plan.wheel_set);
    }
    key.finish()
}

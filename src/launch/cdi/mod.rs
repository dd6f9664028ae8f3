//! The Container Device Interface, version 1.1.0: files in which a vendor says what a device needs in a container.
//!
//! ```text
//! CdiFile => Specification, many => Registry, with qualified names => Changes
//! ```
//!
//! A file is refused as a whole, naming file and field, when it has an unknown field, uses what its `cdiVersion` did
//! not have yet, or has an invalid kind, name, path or edit. A refused file does not keep other files' devices from
//! being used.
//!
//! Deviations from the specification, all because a sandbox without root and without foreign programs cannot do it:
//!
//! - Hooks are never run. Those of NVIDIA's and AMD's toolkits are understood as data ([`Effect`]); any other is a
//!   warning.
//! - Device nodes are bound, not made: number, owner and mode are those of the host's node, and there is no control
//!   group that would hold `permissions`.
//! - `intelRdt` and `netDevices` are warnings; so are mount options that would share mounts with the host.

mod changes;
mod check;
mod error;
mod hook;
mod model;
mod name;
mod path;
mod registry;
#[cfg(test)]
mod tests;
mod version;

pub use changes::{Changes, Link};
pub use error::CdiError;
pub use hook::Effect;
pub use model::{Device, DeviceNode, Edits, Hook, IntelRdt, Mount, NetDevice, Specification};
pub use name::{Kind, QualifiedName};
pub use registry::{Found, Registry};

//! A CDI file as it is written, JSON or YAML by its name.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::error::CdiError;
use super::{check, version};
use crate::launch::CdiFile;

/// One file: devices of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Specification {
    pub cdi_version: String,
    /// `nvidia.com/gpu`.
    pub kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub devices: Vec<Device>,
    /// For any of the devices.
    #[serde(default, deserialize_with = "or_default")]
    pub container_edits: Edits,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    pub name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub container_edits: Edits,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edits {
    /// `NAME=value`.
    #[serde(default, deserialize_with = "or_default")]
    pub env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub device_nodes: Vec<DeviceNode>,
    #[serde(default, deserialize_with = "or_default")]
    pub mounts: Vec<Mount>,
    #[serde(default, deserialize_with = "or_default")]
    pub hooks: Vec<Hook>,
    /// The specification writes it both ways.
    #[serde(default, alias = "additionalGIDs", deserialize_with = "or_default")]
    pub additional_gids: Vec<u32>,
    pub intel_rdt: Option<IntelRdt>,
    #[serde(default, deserialize_with = "or_default")]
    pub net_devices: Vec<NetDevice>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    pub path: String,
    /// `path` where there is none.
    pub host_path: Option<String>,
    /// `b`, `c`, `u` or `p`.
    pub r#type: Option<String>,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub file_mode: Option<u32>,
    /// Of `r`, `w`, `m`.
    pub permissions: Option<String>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    pub host_path: String,
    pub container_path: String,
    #[serde(default, deserialize_with = "or_default")]
    pub options: Vec<String>,
    pub r#type: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    pub hook_name: String,
    pub path: String,
    /// The first is the program's name.
    #[serde(default, deserialize_with = "or_default")]
    pub args: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub env: Vec<String>,
    pub timeout: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntelRdt {
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    #[serde(rename = "l3CacheSchema")]
    pub l3_cache_schema: Option<String>,
    #[serde(rename = "memBwSchema")]
    pub mem_bw_schema: Option<String>,
    pub schemata: Option<Vec<String>>,
    #[serde(rename = "enableMonitoring")]
    pub enable_monitoring: Option<bool>,
    #[serde(rename = "enableCMT")]
    pub enable_cmt: Option<bool>,
    #[serde(rename = "enableMBM")]
    pub enable_mbm: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetDevice {
    pub host_interface_name: String,
    pub name: String,
}

impl Specification {
    /// What the file says, if it is valid in every part.
    pub fn read(file: &CdiFile) -> Result<Self, CdiError> {
        let syntax = |what: String| CdiError::Syntax { path: file.path.clone(), what };
        let specification: Self = match file.path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => serde_json::from_str(&file.text).map_err(|error| syntax(error.to_string()))?,
            Some("yaml") => {
                serde_saphyr::from_str(&file.text).map_err(|error| syntax(first_line(&error.to_string())))?
            }
            _ => return Err(syntax("its name ends neither in .json nor in .yaml".to_owned())),
        };
        let invalid = |invalid: check::Invalid| CdiError::Invalid {
            path: file.path.clone(),
            field: invalid.field,
            rule: invalid.rule,
        };
        version::check(&specification).map_err(invalid)?;
        check::check(&specification).map_err(invalid)?;
        Ok(specification)
    }

    /// The edits of the file and of each device, with the names of their fields.
    pub(super) fn all_edits(&self) -> impl Iterator<Item = (String, &Edits)> {
        let devices = self.devices.iter().enumerate();
        std::iter::once(("containerEdits".to_owned(), &self.container_edits)).chain(
            devices.map(|(at, device)| (format!("devices[{at}].containerEdits"), &device.container_edits)),
        )
    }
}

/// The reader's message without the extract of the file below it.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim_end_matches(':');
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// `null` is as good as nothing.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

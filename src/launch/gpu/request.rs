//! What `--gpus` says.

use std::fmt;
use std::str::FromStr;

use crate::launch::cdi::QualifiedName;

/// Which GPUs are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GpuRequest {
    #[default]
    None,
    /// All of the host; of a partitioned one its partitions.
    All,
    /// Each once, in the order asked.
    Some(Vec<Wanted>),
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Place in the order of PCI addresses, as `nvidia-smi` counts.
    Index(u32),
    /// `GPU-...`.
    Uuid(String),
    /// Place of the GPU, and of the MIG device on it in the order of its instances.
    Mig(u32, u32),
    /// `MIG-...`.
    MigUuid(String),
    /// A device of a CDI file.
    Device(QualifiedName),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` names no GPU")]
pub struct RequestError {
    pub word: String,
}

impl RequestError {
    pub fn hint(&self) -> &'static str {
        "say all, none, or a list of: index (0), UUID (GPU-...), MIG device (0:1 or MIG-...), CDI device \
         (nvidia.com/gpu=NAME)"
    }
}

impl FromStr for GpuRequest {
    type Err = RequestError;

    fn from_str(text: &str) -> Result<Self, RequestError> {
        match text {
            "all" => return Ok(Self::All),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let mut all = Vec::new();
        for word in text.split(',') {
            let wanted = word.parse()?;
            if !all.contains(&wanted) {
                all.push(wanted);
            }
        }
        Ok(Self::Some(all))
    }
}

impl FromStr for Wanted {
    type Err = RequestError;

    fn from_str(word: &str) -> Result<Self, RequestError> {
        let refused = || RequestError { word: word.to_owned() };
        // Numbers without sign, space or leading zero.
        let number = |text: &str| {
            let plain =
                text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
            text.parse().ok().filter(|_| plain)
        };
        if word.contains('=') {
            return word.parse().map(Self::Device).map_err(|_| refused());
        }
        if let Some(index) = number(word) {
            return Ok(Self::Index(index));
        }
        if let Some((gpu, instance)) = word.split_once(':') {
            return match (number(gpu), number(instance)) {
                (Some(gpu), Some(instance)) => Ok(Self::Mig(gpu, instance)),
                _ => Err(refused()),
            };
        }
        let is_id = |id: &str| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !id.ends_with('-')
        };
        match word.split_once('-') {
            Some(("GPU", id)) if is_id(id) => Ok(Self::Uuid(word.to_owned())),
            Some(("MIG", id)) if is_id(id) => Ok(Self::MigUuid(word.to_owned())),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Uuid(uuid) | Self::MigUuid(uuid) => f.write_str(uuid),
            Self::Mig(gpu, instance) => write!(f, "{gpu}:{instance}"),
            Self::Device(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_to_ask() {
        let some = |wanted: Vec<Wanted>| Ok(GpuRequest::Some(wanted));
        let uuid = "GPU-8f6d2a1c-90ab-4c1d-8e52-0d1f5a7b3c21";
        let mig = "MIG-2f0e5c7a-1b3d-5e8f-9a0b-c1d2e3f40516";
        for (text, expected) in [
            ("all", Ok(GpuRequest::All)),
            ("none", Ok(GpuRequest::None)),
            ("0", some(vec![Wanted::Index(0)])),
            ("1,0,1", some(vec![Wanted::Index(1), Wanted::Index(0)])),
            (uuid, some(vec![Wanted::Uuid(uuid.to_owned())])),
            (mig, some(vec![Wanted::MigUuid(mig.to_owned())])),
            ("0:1,2", some(vec![Wanted::Mig(0, 1), Wanted::Index(2)])),
            ("amd.com/gpu=all", some(vec![Wanted::Device("amd.com/gpu=all".parse().unwrap())])),
            ("nvidia.com/gpu=0:1", some(vec![Wanted::Device("nvidia.com/gpu=0:1".parse().unwrap())])),
        ] {
            assert_eq!(text.parse::<GpuRequest>(), expected, "{text}");
        }
    }

    #[test]
    fn what_names_no_gpu() {
        for (text, word) in [
            ("", ""),
            ("all,0", "all"),
            ("0,none", "none"),
            ("0,", ""),
            ("-1", "-1"),
            ("+1", "+1"),
            ("01", "01"),
            ("0 ", "0 "),
            ("99999999999", "99999999999"),
            ("0:", "0:"),
            ("0:1:2", "0:1:2"),
            ("GPU-", "GPU-"),
            ("GPU-../../x", "GPU-../../x"),
            ("gpu0", "gpu0"),
            ("nvidia.com=0", "nvidia.com=0"),
            ("=0", "=0"),
            ("a/b/c=0", "a/b/c=0"),
        ] {
            assert_eq!(text.parse::<GpuRequest>(), Err(RequestError { word: word.to_owned() }), "{text}");
        }
    }
}

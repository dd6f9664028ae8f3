//! What is wrong with CDI files, or with what is asked of them.

use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CdiError {
    #[error("CDI file {}: {what}", path.display())]
    Syntax { path: PathBuf, what: String },
    /// `rule` is the rest of a sentence: "is not an absolute path".
    #[error("CDI file {}: `{field}` {rule}", path.display())]
    Invalid { path: PathBuf, field: String, rule: String },
    #[error("`{name}` is not the name of a device, vendor.com/class=name")]
    Name { name: String },
    #[error("no CDI file describes {kind}")]
    UnknownKind { kind: String, known: Vec<String>, broken: Vec<CdiError> },
    #[error("no CDI file describes {device}")]
    UnknownDevice { device: String, known: Vec<String>, broken: Vec<CdiError> },
    #[error("{device} is described by {} and by {}, which are of one priority", first.display(), second.display())]
    Conflict { device: String, first: PathBuf, second: PathBuf },
}

impl CdiError {
    /// What to do about it, each a sentence fragment.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Syntax { path, .. } | Self::Invalid { path, .. } => {
                vec![format!("write {} anew with the vendor's tool, or remove it", path.display())]
            }
            Self::Name { .. } => Vec::new(),
            Self::UnknownKind { known, broken, .. } | Self::UnknownDevice { known, broken, .. } => {
                let there = match known.is_empty() {
                    true => "there is none in /etc/cdi, /var/run/cdi and the user's cdi directory".to_owned(),
                    false => format!("they describe {}", known.join(", ")),
                };
                std::iter::once(there)
                    .chain(broken.iter().map(|error| format!("not used: {error}")))
                    .collect()
            }
            Self::Conflict { .. } => vec![
                "remove one of the files; of files that lie in different directories the later directory wins"
                    .to_owned(),
            ],
        }
    }
}

//! Devices of all CDI files, by name.

use std::path::PathBuf;

use super::error::CdiError;
use super::model::{Device, Edits, Specification};
use super::name::{Kind, QualifiedName};
use crate::launch::CdiFile;

/// Files in the order of their directories; of two directories that describe one device the later wins.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    files: Vec<File>,
    /// Why files are not used.
    pub broken: Vec<CdiError>,
}

#[derive(Debug, Clone)]
struct File {
    path: PathBuf,
    /// Place of the directory.
    priority: usize,
    kind: Kind,
    content: Specification,
}

/// A device and the file that describes it.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Place of the file: what its devices have in common is needed once.
    pub file: usize,
    /// What any of the file's devices needs.
    pub common: &'a Edits,
    pub device: &'a Device,
}

impl Registry {
    /// Takes all files in, those of one directory standing together.
    pub fn new(files: &[CdiFile]) -> Self {
        let mut registry = Self::default();
        let mut priority = 0;
        for (at, file) in files.iter().enumerate() {
            if at > 0 && files[at - 1].path.parent() != file.path.parent() {
                priority += 1;
            }
            let read = Specification::read(file).map(|content| {
                let kind =
                    Kind::parse(&content.kind).expect("a specification that was read has a valid kind");
                File { path: file.path.clone(), priority, kind, content }
            });
            match read {
                Ok(file) => registry.files.push(file),
                Err(error) => registry.broken.push(error),
            }
        }
        registry
    }

    pub fn knows(&self, kind: &Kind) -> bool {
        self.files.iter().any(|file| file.kind == *kind)
    }

    /// The names of all devices of a kind, in the order of the files, each once.
    pub fn devices(&self, kind: &Kind) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for file in self.files.iter().filter(|file| file.kind == *kind) {
            for device in &file.content.devices {
                if !names.contains(&device.name) {
                    names.push(device.name.clone());
                }
            }
        }
        names
    }

    pub fn find(&self, name: &QualifiedName) -> Result<Found<'_>, CdiError> {
        let broken = self.broken.clone();
        if !self.knows(&name.kind) {
            let mut known: Vec<_> = self.files.iter().map(|file| file.kind.to_string()).collect();
            known.sort();
            known.dedup();
            return Err(CdiError::UnknownKind { kind: name.kind.to_string(), known, broken });
        }
        let mut found: Option<(&File, Found<'_>)> = None;
        for (at, file) in self.files.iter().enumerate().filter(|(_, file)| file.kind == name.kind) {
            let Some(device) = file.content.devices.iter().find(|device| device.name == name.device) else {
                continue;
            };
            // Later files are of the same or of a later directory; a conflict below is settled by what wins over both.
            let wins = found.is_none_or(|(other, _)| other.priority < file.priority);
            if !wins {
                continue;
            }
            found = Some((file, Found { file: at, common: &file.content.container_edits, device }));
        }
        let Some((winner, found)) = found else {
            let known =
                self.devices(&name.kind).iter().map(|device| format!("{}={device}", name.kind)).collect();
            return Err(CdiError::UnknownDevice { device: name.to_string(), known, broken });
        };
        let rival = self.files.iter().enumerate().find(|(at, file)| {
            *at != found.file
                && file.kind == name.kind
                && file.priority == winner.priority
                && file.content.devices.iter().any(|device| device.name == name.device)
        });
        match rival {
            Some((_, rival)) => Err(CdiError::Conflict {
                device: name.to_string(),
                first: winner.path.clone(),
                second: rival.path.clone(),
            }),
            None => Ok(found),
        }
    }
}

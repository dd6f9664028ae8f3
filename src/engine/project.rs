//! A project on disk: the spec, the lock beside it, and what the spec's Python inputs say.

use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::engine::EngineError;
use crate::lock;
use crate::lock::model::{InputLock, Inputs, Lock, base_text};
use crate::resolve::{self, Asked, PythonInputs};
use crate::spec::{
    self,
    model::{Base, Index, Prune, Spec},
};
use crate::textfile;

/// A spec that has been read and understood.
pub struct Project {
    /// Path of the spec as given.
    pub spec_path: PathBuf,
    /// The spec's directory: what `requirements` and `[[copy]]` are relative to.
    pub directory: PathBuf,
    pub text: String,
    pub spec: Spec,
    pub warnings: Vec<Diagnostic>,
    /// What `[python]` and the files it names ask for; none without `[python]`.
    pub python: Option<PythonInputs>,
}

impl Project {
    pub fn open(spec_path: &Path) -> Result<Self, EngineError> {
        let text = match textfile::read(spec_path, spec::MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(EngineError::NoSpec { path: spec_path.to_owned() });
            }
            Err(source) => return Err(EngineError::Read { path: spec_path.to_owned(), source }),
        };
        let parsed = match spec::parse(&text) {
            Ok(parsed) => parsed,
            Err(diagnostics) => {
                return Err(EngineError::Spec { path: spec_path.to_owned(), text, diagnostics });
            }
        };
        let directory = match spec_path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let python = match &parsed.spec.python {
            Some(python) => Some(resolve::read_inputs(&directory, python).map_err(EngineError::Inputs)?),
            None => None,
        };
        Ok(Self {
            spec_path: spec_path.to_owned(),
            directory,
            text,
            spec: parsed.spec,
            warnings: parsed.warnings,
            python,
        })
    }

    /// Beside the spec and named after it: `mlbuild.lock` of `mlbuild.toml`.
    pub fn lock_path(&self) -> PathBuf {
        self.spec_path.with_extension("lock")
    }

    /// The lock beside the spec; none if there is none.
    pub fn read_lock(&self) -> Result<Option<(Lock, String)>, EngineError> {
        let path = self.lock_path();
        let text = match textfile::read(&path, lock::wire::MAX_LEN) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(EngineError::Read { path, source }),
        };
        match lock::read(&text) {
            Ok(lock) => Ok(Some((lock, text))),
            Err(source) => Err(EngineError::Lock { path, source }),
        }
    }

    /// Indexes in order of priority: the spec's, then those of the files it names.
    pub fn indexes(&self) -> Vec<Index> {
        let mut indexes = self.spec.indexes.clone();
        for index in self.python.iter().flat_map(|python| &python.indexes) {
            if !indexes.iter().any(|known| known.url == index.url) {
                indexes.push(index.clone());
            }
        }
        indexes
    }

    /// Whether files of the project, or a directory of their own, go upon the layers below.
    pub(super) fn puts_files(&self) -> bool {
        let workdir = self.spec.image.workdir.as_deref().is_some_and(|workdir| workdir != "/");
        workdir || !self.spec.copies.is_empty()
    }

    /// What a lock for this project has to be made from.
    pub fn inputs(&self) -> Inputs {
        let spec = &self.spec;
        let mut inputs = Inputs { platforms: spec.image.platforms.clone(), ..Inputs::default() };
        inputs.base = base_text(&spec.base);
        match &spec.base {
            Base::Debian(debian) => {
                inputs.snapshot = debian.snapshot.clone();
                inputs.debian_packages = debian.packages.clone();
            }
            Base::Oci(_) | Base::Scratch => {}
        }
        inputs.prune = prune_rules(spec.prune);
        if let (Some(python), Some(asked)) = (&spec.python, &self.python) {
            inputs.python = Some(match &python.build {
                Some(build) => format!("{}+{build}", python.version),
                None => python.version.clone(),
            });
            inputs.python_provider = Some(python.provider);
            inputs.requirements = sorted(asked.requirements.iter().map(with_hashes));
            inputs.constraints = sorted(asked.constraints.iter().map(|asked| asked.text.clone()));
            inputs.indexes = self.indexes().iter().map(index_text).collect();
            inputs.exclude_newer = python.exclude_newer.clone();
            inputs.prerelease = python.prerelease.clone();
            inputs.prefer = python.prefer.clone();
            inputs.wheels = spec.wheels.clone();
            inputs.locks = asked
                .locks
                .iter()
                .map(|lock| InputLock {
                    path: lock.path.clone(),
                    sha256: lock.sha256,
                    extras: sorted(python.extras.iter().cloned()),
                    groups: sorted(python.groups.iter().cloned()),
                })
                .collect();
            inputs.locks.sort();
        }
        inputs
    }
}

/// A requirement with the hashes that bind it, as a requirements file writes them.
fn with_hashes(asked: &Asked) -> String {
    let hashes = sorted(asked.hashes.iter().cloned());
    hashes.iter().fold(asked.text.clone(), |text, hash| format!("{text} --hash={hash}"))
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort();
    texts.dedup();
    texts
}

fn prune_rules(prune: Prune) -> Vec<String> {
    let Prune { tests, headers, static_libraries, stubs } = prune;
    [("headers", headers), ("static-libraries", static_libraries), ("stubs", stubs), ("tests", tests)]
        .into_iter()
        .filter(|(_, on)| *on)
        .map(|(rule, _)| rule.to_owned())
        .collect()
}

/// `url [name=…] [explicit] [default] [packages=a,b]`, without credentials.
fn index_text(index: &Index) -> String {
    let mut text = resolve::without_credentials(&index.url);
    if let Some(name) = &index.name {
        text += &format!(" name={name}");
    }
    for (flag, on) in [("explicit", index.explicit), ("default", index.default)] {
        if on {
            text = format!("{text} {flag}");
        }
    }
    if !index.packages.is_empty() {
        text += &format!(" packages={}", sorted(index.packages.iter().cloned()).join(","));
    }
    text
}

//! What `[python]` names, read and normalised: its own lists, requirements files, `pyproject.toml`, and locks of other
//! tools. No network, no environment, no host Python.
//!
//! Two specs that ask for the same give equal lists here, however they are written: requirements are in canonical
//! form, sorted, each once. A lock's `inputs` are made of them, so that a changed comment or order is no change.

mod locks;
mod pylock;
mod pyproject;
mod requirements_txt;
mod uv_lock;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use locks::{InputLockFile, from_lock};

use super::InputError;
use super::uv::requirement;
use crate::digest::Digest;
use crate::spec::model::{Index, Python};
use crate::textfile;

/// The longest input that is read. The largest real lock we know of has 3 MB.
const LIMIT: usize = 16 << 20;

/// Everything that `[python]` asks for.
#[derive(Debug, Clone, Default)]
pub struct PythonInputs {
    /// By text, each once.
    pub requirements: Vec<Asked>,
    /// By text, each once.
    pub constraints: Vec<Asked>,
    /// Named in requirements files or `pyproject.toml`, in order of appearance; the spec's own come before them.
    pub indexes: Vec<Index>,
    /// Locks to be taken as they are, in the spec's order.
    pub locks: Vec<InputLockFile>,
    /// Every file that was read, in order of reading.
    pub files: Vec<PathBuf>,
}

/// One requirement and where it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// PEP 508, canonical.
    pub text: String,
    /// `mlbuild.toml`, `requirements.txt:3`, `pyproject.toml`.
    pub origin: String,
    /// `sha256:…` of the files that may be installed; none: any.
    pub hashes: Vec<String>,
}

/// Reads what `python` names; `dir` is the directory of the spec.
pub fn read_inputs(dir: &Path, python: &Python) -> Result<PythonInputs, InputError> {
    let spec = "mlbuild.toml";
    let mut inputs = PythonInputs::default();
    for text in &python.dependencies {
        inputs.requirements.push(asked(text, spec, Vec::new(), false)?);
    }
    for text in &python.constraints {
        inputs.constraints.push(asked(text, spec, Vec::new(), true)?);
    }
    let extras = normalised(&python.extras, requirement::normalise_extra)?;
    let groups = normalised(&python.groups, requirement::normalise_group)?;
    let mut projects = 0;
    for name in &python.requirements {
        let path = dir.join(name);
        let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if file_name == "pyproject.toml" {
            projects += 1;
            let text = read_text(&path)?;
            pyproject::read(&text, name, &path, &extras, &groups, &mut inputs)?;
            inputs.files.push(path);
        } else if let Some(kind) = locks::kind_of(file_name) {
            let text = read_text(&path)?;
            inputs.locks.push(InputLockFile::new(name.clone(), kind, Digest::of(&text), text));
            inputs.files.push(path);
        } else if Path::new(file_name).extension().is_some_and(|extension| extension == "toml") {
            return Err(InputError::Refused {
                origin: name.clone(),
                reason: "expected `pyproject.toml`, `uv.lock`, `pylock.toml` or a requirements file"
                    .to_owned(),
            });
        } else {
            requirements_txt::read(dir, name, &mut inputs)?;
        }
    }
    if projects == 0 && inputs.locks.is_empty() {
        let wanted =
            extras.first().map(|name| ("extra", name)).or(groups.first().map(|name| ("group", name)));
        if let Some((kind, name)) = wanted {
            return Err(InputError::Unknown {
                origin: format!("{spec}: no `pyproject.toml` or lock in `requirements`"),
                kind,
                name: name.clone(),
                known: Vec::new(),
            });
        }
    }
    inputs.requirements = merged(std::mem::take(&mut inputs.requirements));
    inputs.constraints = merged(std::mem::take(&mut inputs.constraints));
    Ok(inputs)
}

fn normalised(
    names: &[String],
    normalise: impl Fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, InputError> {
    let refused = |reason| InputError::Refused { origin: "mlbuild.toml".to_owned(), reason };
    let mut names =
        names.iter().map(|name| normalise(name).map_err(refused)).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    names.dedup();
    Ok(names)
}

fn asked(text: &str, origin: &str, hashes: Vec<String>, constraint: bool) -> Result<Asked, InputError> {
    let named = requirement::parse(text, constraint).map_err(|reason| InputError::Requirement {
        origin: origin.to_owned(),
        // A refused URL may have a secret in it.
        text: super::without_credentials(text.trim()),
        reason,
    })?;
    Ok(Asked { text: named.text, origin: origin.to_owned(), hashes })
}

/// Sorted by text; equal texts become one, with the hashes of all and the origin of the first.
fn merged(list: Vec<Asked>) -> Vec<Asked> {
    let mut by_text: BTreeMap<String, Asked> = BTreeMap::new();
    for asked in list {
        match by_text.get_mut(&asked.text) {
            Some(known) => known.hashes.extend(asked.hashes),
            None => {
                by_text.insert(asked.text.clone(), asked);
            }
        }
    }
    by_text
        .into_values()
        .map(|mut asked| {
            asked.hashes.sort();
            asked.hashes.dedup();
            asked
        })
        .collect()
}

/// The text of a file of at most [`LIMIT`] bytes, without a byte order mark.
fn read_text(path: &Path) -> Result<String, InputError> {
    let text =
        textfile::read(path, LIMIT).map_err(|source| InputError::Read { path: path.to_owned(), source })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(dependencies: &[&str], requirements: &[&str]) -> Python {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Python {
            version: "3.11".to_owned(),
            provider: crate::spec::model::PythonProvider::Debian,
            mirror: None,
            build: None,
            dependencies: owned(dependencies),
            requirements: owned(requirements),
            constraints: Vec::new(),
            extras: Vec::new(),
            groups: Vec::new(),
            exclude_newer: None,
            prerelease: None,
            prefer: Vec::new(),
        }
    }

    fn texts(list: &[Asked]) -> Vec<&str> {
        list.iter().map(|asked| &*asked.text).collect()
    }

    #[test]
    fn order_and_spelling_make_no_difference() {
        let dir = tempfile::tempdir().unwrap();
        let a = read_inputs(dir.path(), &python(&["Torch == 2.9.1", "numpy<3,>=1"], &[])).unwrap();
        let b = read_inputs(dir.path(), &python(&["numpy >=1, <3", "torch==2.9.1", "torch ==2.9.1"], &[]))
            .unwrap();
        assert_eq!(a.requirements, b.requirements);
        assert_eq!(texts(&a.requirements), ["numpy>=1,<3", "torch==2.9.1"]);
        assert_eq!(a.requirements[0].origin, "mlbuild.toml");
    }

    #[test]
    fn files_are_recognised_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("uv.lock", "version = 1\n");
        write("pylock.gpu.toml", "lock-version = \"1.0\"\n");
        write("deps.txt", "numpy\n");
        write("other.toml", "");
        let inputs =
            read_inputs(dir.path(), &python(&[], &["uv.lock", "pylock.gpu.toml", "deps.txt"])).unwrap();
        assert_eq!(inputs.locks.len(), 2);
        assert_eq!(inputs.locks[0].sha256, Digest::of("version = 1\n"));
        assert_eq!(inputs.files.len(), 3);
        assert_eq!(texts(&inputs.requirements), ["numpy"]);
        assert!(matches!(
            read_inputs(dir.path(), &python(&[], &["other.toml"])),
            Err(InputError::Refused { .. })
        ));
        assert!(matches!(
            read_inputs(dir.path(), &python(&[], &["missing.txt"])),
            Err(InputError::Read { .. })
        ));
        let mut extra = python(&["numpy"], &[]);
        extra.extras = vec!["gpu".to_owned()];
        assert!(matches!(read_inputs(dir.path(), &extra), Err(InputError::Unknown { .. })));
    }

    #[test]
    fn secrets_stay_out_of_errors() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_inputs(
            dir.path(),
            &python(&["a @ https://user:secret@files.example/a-1-py3-none-any.whl"], &[]),
        )
        .unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

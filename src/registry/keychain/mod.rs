//! The credentials that the user of this machine has already given to other tools, or to `mlbuild login`.
//!
//! The first of these that has something for a registry has the word:
//!
//! 1. `DOCKER_AUTH_CONFIG`: the text of an authentication file, for CI; `file` has the format.
//! 2. `REGISTRY_AUTH_FILE` names a file. It is then the only one, and has to be there.
//! 3. Without it: `$XDG_RUNTIME_DIR/containers/auth.json` (`/run/containers/UID` where that variable is not set),
//!    `$XDG_CONFIG_HOME/containers/auth.json`, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
//!
//! Within one of them: the helper of `credHelpers` for this registry alone; else that of `credsStore`, and where it knows
//! nothing, `auths`.
//!
//! **Exactly one host and port matches** (`key` says which keys mean it). Entries for a namespace of a registry
//! (`registry.example/team`) are podman's alone; they are not used, and a warning says so where nothing else is there. Only
//! Docker Hub goes by more names than one (`registry::hub`), and by that of its logins here.
//!
//! A broken file, entry or helper that would have the word is an error, not a reason to go on as somebody else. A file
//! that others may read is a warning, which whoever asks is to show ([`UserKeychain::take_warnings`]). Files and helpers are asked anew each time.
//!
//! Deliberately absent: `~/.dockercfg`, `credential-helpers` of containers-registries.conf(5).

mod base64;
mod change;
mod file;
mod helper;
mod key;
mod places;
mod secret_text;

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::registry::{Credential, Host, Keychain, KeychainError, Secret};
use crate::textfile;
use file::AuthFile;

pub use change::ChangeError;
pub use places::Places;

/// The keychain of [`Places`].
#[derive(Debug, Default)]
pub struct UserKeychain {
    places: Places,
    warnings: Mutex<Warnings>,
}

#[derive(Debug, Default)]
struct Warnings {
    new: Vec<String>,
    all: BTreeSet<String>,
}

/// What has a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `DOCKER_AUTH_CONFIG`
    Variable,
    File(PathBuf),
    /// A helper program, by its name.
    Helper(String),
}

/// Reads a source; none where it is not there.
type Read<'k> = Box<dyn Fn() -> Result<Option<AuthFile>, String> + 'k>;

/// A user name and a password that a person has given, or what is wrong with them.
pub fn entered(user: &str, password: &str) -> Result<Credential, &'static str> {
    if user.is_empty() {
        return Err("the user name is empty");
    }
    if password.is_empty() {
        return Err("the password is empty");
    }
    secret_text::check_user(user)?;
    secret_text::check_password(password)?;
    Ok(Credential::Basic { user: user.to_owned(), password: Secret::new(password) })
}

impl UserKeychain {
    pub fn new(places: Places) -> Self {
        Self { places, warnings: Mutex::default() }
    }

    /// The credential of a registry, and what has it.
    pub fn find(&self, host: &Host) -> Result<Option<(Credential, Source)>, KeychainError> {
        let mut namespaces = None;
        for (source, file) in self.sources() {
            let failed = |what: &dyn fmt::Display, problem| KeychainError {
                host: host.clone(),
                source_name: what.to_string(),
                problem,
            };
            let file = match file() {
                Ok(Some(file)) => file,
                Ok(None) => continue,
                Err(problem) => return Err(failed(&source, problem)),
            };
            if let Some(helper) = file.helper(host).map_err(|problem| failed(&source, problem))? {
                let program = Source::Helper(helper.program());
                let named = |problem| failed(&format_args!("{program} (named by {source})"), problem);
                if let Some(credential) = helper.get(host, &self.places.helpers).map_err(named)? {
                    return Ok(Some((credential, program)));
                }
            }
            if let Some(credential) = file.credential(host).map_err(|problem| failed(&source, problem))? {
                return Ok(Some((credential, source)));
            }
            if file.has_namespaces(host) {
                namespaces.get_or_insert(source);
            }
        }
        if let Some(source) = namespaces {
            self.warn(format!(
                "{source} has credentials for namespaces of {host} alone, which are not used: `mlbuild login {host}` \
                 stores one for the registry"
            ));
        }
        Ok(None)
    }

    /// What is worth saying of the files that were read so far, each once, however often they are read.
    pub fn take_warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut warnings.new)
    }

    fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.all.insert(text.clone()) {
            warnings.new.push(text);
        }
    }

    /// All that may have a credential, in order of precedence; each is read when its turn comes.
    fn sources(&self) -> impl Iterator<Item = (Source, Read<'_>)> {
        let variable = self.places.text.iter().map(|text| {
            let read = || AuthFile::parse(text.expose()).map(Some);
            (Source::Variable, Box::new(read) as Read<'_>)
        });
        let files = self.places.files.iter().map(|path| {
            let read = || self.read(path);
            (Source::File(path.clone()), Box::new(read) as Read<'_>)
        });
        variable.chain(files)
    }

    /// The file of that name, if it is there.
    fn read(&self, path: &Path) -> Result<Option<AuthFile>, String> {
        let text = match textfile::read(path, file::MAX_BYTES) {
            Ok(text) => text,
            Err(error) if !self.places.required && textfile::is_away(path, &error) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let file = AuthFile::parse(&text)?;
        let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777);
        if mode & 0o066 != 0 && file.has_secrets() {
            self.warn(format!(
                "{path} can be read or changed by others (mode {mode:04o})",
                path = path.display()
            ));
        }
        Ok(Some(file))
    }
}

impl Keychain for UserKeychain {
    fn credential(&self, host: &Host) -> Result<Option<Credential>, KeychainError> {
        Ok(self.find(host)?.map(|(credential, _)| credential))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable => f.write_str("DOCKER_AUTH_CONFIG"),
            Self::File(path) => path.display().fmt(f),
            Self::Helper(program) => f.write_str(program),
        }
    }
}

#[cfg(test)]
mod tests;

//! Logging in and out: what is known of a registry is put where it will be found, and taken from everywhere.
//!
//! A credential goes to the file that already names the registry, or else to Docker's, which most tools read; within it,
//! as the file itself says, to a helper, and only without one into the file as it is.
//!
//! A file is replaced as a whole (temporary file, `fsync`, rename) and is then readable by its owner alone. One that is
//! somebody else's, or a link to nothing, is not touched; one that is a link to a file is replaced where it is. Logins of
//! mlbuild wait for each other; other tools know no lock that we could share.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::file::AuthFile;
use super::{Source, UserKeychain, file};
use crate::registry::{Credential, Host};
use crate::{scratch, textfile};

#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("there is no place for credentials: neither REGISTRY_AUTH_FILE, DOCKER_CONFIG nor HOME is set")]
    NoPlace,
    #[error("cannot change {path}: {why}", path = path.display())]
    Refused { path: PathBuf, why: String },
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{program} does not {action} the credential for {host}: {why}")]
    Helper { program: String, action: &'static str, host: Host, why: String },
}

impl UserKeychain {
    /// Keeps a credential in place of what was known of the registry; what has it now.
    pub fn keep(&self, host: &Host, credential: &Credential) -> Result<Source, ChangeError> {
        let path = self.place_of(host)?;
        let refused = |why| ChangeError::Refused { path: path.clone(), why };
        let helper = load(&path)?.helper(host).map_err(refused)?;
        let Some(helper) = helper else {
            change(&path, |file| file.set(host, Some(credential)))?;
            return Ok(Source::File(path));
        };
        let program = helper.program();
        helper.store(host, credential, &self.places.helpers).map_err(|why| ChangeError::Helper {
            program: program.clone(),
            action: "store",
            host: host.clone(),
            why,
        })?;
        // What was there before is known no more; the name alone tells Docker's `logout` that there is something.
        change(&path, |file| file.set(host, None))?;
        Ok(Source::Helper(program))
    }

    /// Forgets what is known of the registry, in every file and by every helper; what had something. A helper that fails
    /// keeps no file from being changed.
    pub fn forget(&self, host: &Host) -> Result<Vec<Source>, ChangeError> {
        let mut had = Vec::new();
        let mut failure = None;
        for path in &self.places.files {
            let file = load(path)?;
            match file.helper(host) {
                Ok(None) => {}
                Ok(Some(helper)) => match helper.erase(host, &self.places.helpers) {
                    Ok(true) => had.push(Source::Helper(helper.program())),
                    Ok(false) => {}
                    Err(why) => {
                        let program = helper.program();
                        failure.get_or_insert(ChangeError::Helper {
                            program,
                            action: "erase",
                            host: host.clone(),
                            why,
                        });
                    }
                },
                Err(why) => {
                    failure.get_or_insert(ChangeError::Refused { path: path.clone(), why });
                }
            }
            if file.names(host) {
                // A name without a secret is what a helper's had.
                let secret = !matches!(file.credential(host), Ok(None));
                change(path, |file| {
                    file.remove(host);
                    Ok(())
                })?;
                if secret {
                    had.push(Source::File(path.clone()));
                }
            }
        }
        failure.map_or(Ok(had), Err)
    }

    /// The file that a credential goes to, or whose helper it goes to.
    fn place_of(&self, host: &Host) -> Result<PathBuf, ChangeError> {
        for path in &self.places.files {
            if load(path)?.names(host) {
                return Ok(path.clone());
            }
        }
        self.places.new.clone().ok_or(ChangeError::NoPlace)
    }
}

/// The file of that name; one that is not there says nothing.
fn load(path: &Path) -> Result<AuthFile, ChangeError> {
    let refused = |why| ChangeError::Refused { path: path.to_owned(), why };
    match textfile::read(path, file::MAX_BYTES) {
        Ok(text) => AuthFile::parse(&text).map_err(refused),
        Err(error) if textfile::is_away(path, &error) => Ok(AuthFile::default()),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Replaces the file of that name by what `change` makes of it.
fn change(path: &Path, change: impl FnOnce(&mut AuthFile) -> Result<(), String>) -> Result<(), ChangeError> {
    let refused = |why| ChangeError::Refused { path: path.to_owned(), why };
    let failed = |source| ChangeError::Write { path: path.to_owned(), source };
    let target = target(path).map_err(failed)?.map_err(|why| refused(why.to_owned()))?;
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new().mode(0o700).recursive(true).create(directory).map_err(failed)?;
    let lock = File::open(directory).map_err(failed)?;
    // Where there are no locks (some network file systems), two logins at once are the user's matter.
    let _ = lock.lock();
    let mut file = load(&target)?;
    change(&mut file).map_err(refused)?;
    scratch::sweep(directory, scratch::is_scratch);
    let mut new = scratch::create(directory, 0o600).map_err(failed)?;
    new.write_all(file.text().as_bytes()).and_then(|()| new.as_file().sync_all()).map_err(failed)?;
    new.persist(&target).map_err(|error| failed(error.error))?;
    lock.sync_all().map_err(failed)
}

/// The file to be replaced, which a link may stand for; or why it must not be.
fn target(path: &Path) -> io::Result<Result<PathBuf, &'static str>> {
    let is_away = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if is_away(&error) => return Ok(Ok(path.to_owned())),
        Err(error) => return Err(error),
    };
    let target = match found.is_symlink().then(|| path.canonicalize()) {
        None => path.to_owned(),
        Some(Ok(target)) => target,
        Some(Err(error)) if is_away(&error) => return Ok(Err("it is a link to nothing")),
        Some(Err(error)) => return Err(error),
    };
    let found = fs::symlink_metadata(&target)?;
    Ok(if !found.is_file() {
        Err("it is not a file")
    } else if found.uid() != rustix::process::geteuid().as_raw() {
        Err("it belongs to another user")
    } else {
        Ok(target)
    })
}

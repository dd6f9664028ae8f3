//! Making a lock: what is still right in the previous one is kept, the rest is resolved, and nothing else changes.
//!
//! The three parts (Debian, Python, packages) are resolved apart: a part whose inputs are as they were is taken over
//! without asking anybody, so that one more Debian package never moves a wheel, nor the other way round. Within a part
//! the previous pins are preferences. A lock whose inputs equal the spec's is returned byte for byte without network.

use std::collections::BTreeSet;
use std::panic::resume_unwind;

use super::base::BaseName;
use super::{Engine, EngineError, Event, Phase, Project, Upgrade};
use crate::archive::{self, BaseRequest, IndexCache};
use crate::base::manifest;
use crate::blob::ReadAt as _;
use crate::digest::Digest;
use crate::lock::model::{BaseLock, DebLock, Inputs, Lock, PythonLock, SuiteLock};
use crate::lock::{self, Drift, LockDiff};
use crate::scratch;
use crate::spec::model::{Base, PythonProvider};
use crate::store::Store;

#[derive(Debug, Clone, Default)]
pub struct LockRequest {
    /// Which pins may move although the spec does not demand it: names of Python or of Debian packages.
    pub upgrade: Upgrade,
    /// Write into the lock what its layers are.
    pub seal: bool,
}

/// A lock that satisfies its project.
pub struct Locked {
    pub lock: Lock,
    pub text: String,
    /// What changed against the lock before; none when there was none.
    pub diff: Option<LockDiff>,
    /// The text is not what the file has.
    pub changed: bool,
}

/// The Debian part of a lock.
pub(super) struct BasePart {
    pub suites: Vec<SuiteLock>,
    pub debs: Vec<DebLock>,
    /// Version of the suite's Python, when that is the one.
    pub python_version: Option<String>,
}

impl Engine {
    /// The lock on disk, and its differences from the spec: none when it satisfies it.
    pub fn check_lock(&self, project: &Project) -> Result<(Lock, Vec<Drift>), EngineError> {
        let lock = super::prove::locked(project)?;
        let drift = lock::drift(&lock.inputs, &project.inputs());
        Ok((lock, drift))
    }

    /// A lock for the project; the file is not written.
    pub fn lock(&self, project: &Project, request: &LockRequest) -> Result<Locked, EngineError> {
        let lock = || {
            let locked = self.make_lock(project, request)?;
            if request.seal { self.seal(project, locked) } else { Ok(locked) }
        };
        self.or_cancelled(lock())
    }

    fn make_lock(&self, project: &Project, request: &LockRequest) -> Result<Locked, EngineError> {
        let inputs = project.inputs();
        let previous = project.read_lock()?;
        if let Some((lock, text)) = &previous
            && request.upgrade == Upgrade::None
            && lock.inputs == inputs
        {
            self.warn_of_unused(lock);
            let mut kept = lock.clone();
            kept.seals = self.kept_seals(project, lock, &kept, request.seal)?;
            let changed = kept.seals != lock.seals;
            let text = if changed { lock::write(&kept) } else { text.clone() };
            return Ok(Locked { lock: kept, text, diff: None, changed });
        }
        let old = previous.as_ref().map(|(lock, _)| lock);
        let upgrade = &request.upgrade;
        let bases = self.lock_image(project, &inputs, old, request)?;
        self.warn_of_triggers(&inputs, old, &bases)?;
        let (bases, of_base) = self.look_at_bases(project, &inputs, old, upgrade, bases)?;
        let guess = guess(project, &inputs).or_else(|| of_base.clone());
        // The Debian base and the Python packages come from different servers, and a guess of the base's Python is nearly
        // always right: so both are resolved at once.
        let (base, guessed) = std::thread::scope(|threads| {
            let packages = guess.as_ref().map(|python| {
                threads.spawn(|| self.lock_packages(project, &inputs, old, upgrade, Some(python), &bases))
            });
            let base = self.lock_base(project, &inputs, old, upgrade);
            let packages = packages.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            (base, packages)
        });
        let base = base?;
        let python = match of_base {
            Some(python) => Some(python),
            None => self.lock_python(project, &inputs, old, upgrade, &base)?,
        };
        let packages = match guessed {
            Some(packages) if python == guess => packages?,
            _ => self.lock_packages(project, &inputs, old, upgrade, python.as_ref(), &bases)?,
        };
        let seals = Vec::new();
        let mut lock = Lock { inputs, suites: base.suites, bases, python, debs: base.debs, packages, seals };
        lock.normalise();
        if let Some(old) = old {
            lock.seals = self.kept_seals(project, old, &lock, request.seal)?;
        }
        self.warn_of_unused(&lock);
        let text = lock::write(&lock);
        // Nobody gets a lock that no build would read.
        lock::read(&text).map_err(EngineError::NotALock)?;
        Ok(Locked {
            diff: old.map(|old| lock::diff(old, &lock)),
            changed: previous.as_ref().is_none_or(|(_, old)| *old != text),
            lock,
            text,
        })
    }

    /// What a base that is new would have Docker do in each build upon it.
    fn warn_of_triggers(
        &self,
        inputs: &Inputs,
        old: Option<&Lock>,
        bases: &[BaseLock],
    ) -> Result<(), EngineError> {
        let Some(name) = BaseName::of(inputs)? else { return Ok(()) };
        let known =
            |base: &&BaseLock| old.is_some_and(|old| old.bases.iter().any(|it| it.config == base.config));
        let mut found = BTreeSet::new();
        for base in bases.iter().filter(|base| !known(base)) {
            let (_, config) = self.base_documents(&name, base)?;
            found.extend(manifest::triggers(&config));
        }
        if !found.is_empty() {
            let listed: Vec<_> = found.iter().take(5).map(|trigger| format!("`{trigger}`")).collect();
            let text = format!(
                "the base {} wants things done in images upon it (ONBUILD), which are not done: {}",
                name.reference,
                listed.join(", ")
            );
            self.reporter.event(Event::Warning(text));
        }
        Ok(())
    }

    /// An exception for a file that is not locked is a left-over, or has a wrong hash.
    fn warn_of_unused(&self, lock: &Lock) {
        let locked = |sha256: &Digest| {
            lock.packages.iter().flat_map(|package| &package.wheels).any(|wheel| wheel.sha256 == *sha256)
        };
        for exception in lock.inputs.wheels.iter().filter(|exception| !locked(&exception.sha256)) {
            let text = format!("[[wheel]] {}: the lock has no such wheel", exception.sha256.hex());
            self.reporter.event(Event::Warning(text));
        }
    }

    /// Writes `locked` beside the spec if it changed.
    pub fn write_lock(&self, project: &Project, locked: &Locked) -> Result<(), EngineError> {
        if !locked.changed {
            return Ok(());
        }
        let path = project.lock_path();
        let failed = |source| EngineError::Write { path: path.clone(), source };
        scratch::sweep(&project.directory, scratch::is_scratch);
        // The lock is a file like any other of the project, not a private one.
        let mut file = scratch::create(&project.directory, 0o644).map_err(failed)?;
        std::io::Write::write_all(&mut file, locked.text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn lock_base(
        &self,
        project: &Project,
        inputs: &Inputs,
        old: Option<&Lock>,
        upgrade: &Upgrade,
    ) -> Result<BasePart, EngineError> {
        let Base::Debian(debian) = &project.spec.base else {
            return Ok(BasePart { suites: Vec::new(), debs: Vec::new(), python_version: None });
        };
        let python = inputs.python_provider == Some(PythonProvider::Debian);
        let asked_upgrade = match upgrade {
            Upgrade::None => false,
            Upgrade::All => true,
            Upgrade::Packages(names) => {
                old.is_some_and(|old| old.debs.iter().any(|deb| names.contains(&deb.name)))
            }
        };
        if let Some(old) = old
            && !asked_upgrade
            && same_base(&old.inputs, inputs)
        {
            let version = old.python.as_ref().filter(|_| python).map(|python| python.version.clone());
            return Ok(BasePart {
                suites: old.suites.clone(),
                debs: old.debs.clone(),
                python_version: version,
            });
        }
        self.reporter.event(Event::Phase(Phase::ResolveBase));
        let previous = match upgrade {
            Upgrade::All => Vec::new(),
            Upgrade::None => old.map(|old| old.debs.clone()).unwrap_or_default(),
            Upgrade::Packages(names) => {
                let kept = |deb: &&DebLock| !names.contains(&deb.name);
                old.map(|old| old.debs.iter().filter(kept).cloned().collect()).unwrap_or_default()
            }
        };
        let request = BaseRequest {
            suite: debian.suite,
            snapshot: debian.snapshot.clone(),
            packages: debian.packages.clone(),
            python,
            platforms: inputs.platforms.clone(),
            mirrors: super::sources::mirrors(&debian.mirrors)?,
            previous,
            seen: old.map(|old| old.suites.clone()).unwrap_or_default(),
            upgrade: *upgrade == Upgrade::All,
            now: super::sources::now(),
        };
        let client = self.client()?;
        let answer = self.wait(async {
            archive::resolve(&client, &IndexBlobs(&self.store), &request).await.map_err(EngineError::Archive)
        })?;
        for note in answer.notes {
            self.reporter.event(Event::Note(note));
        }
        Ok(BasePart { suites: answer.suites, debs: answer.debs, python_version: answer.python_version })
    }
}

/// The interpreter that the base will probably bring, if it is Debian's.
fn guess(project: &Project, inputs: &Inputs) -> Option<PythonLock> {
    let Base::Debian(debian) = &project.spec.base else { return None };
    let is_debian = inputs.python_provider == Some(PythonProvider::Debian);
    is_debian.then(|| PythonLock::debian(debian.suite.python_guess()))
}

/// Verified indexes kept as blobs. What cannot be kept is fetched again the next time.
struct IndexBlobs<'a>(&'a Store);

impl IndexCache for IndexBlobs<'_> {
    fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let blob = self.0.get(digest).ok()?;
        blob.read_vec_at(0, usize::try_from(blob.size()).ok()?).ok()
    }

    fn put(&self, bytes: &[u8]) {
        let _ = self.0.put_bytes(bytes);
    }
}

/// Do both ask for the same Debian packages?
fn same_base(old: &Inputs, new: &Inputs) -> bool {
    let part = |inputs: &Inputs| {
        (
            inputs.base.clone(),
            inputs.snapshot.clone(),
            inputs.debian_packages.clone(),
            inputs.platforms.clone(),
            inputs.python_provider == Some(PythonProvider::Debian),
        )
    };
    part(old) == part(new)
}

//! `mlbuild lock`.

use serde::Serialize;

use super::Session;
use crate::cli::Exit;
use crate::cli::args::Lock as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::progress::Progress;
use crate::cli::text::on_one_line;
use crate::diagnostic::did_you_mean;
use crate::engine::{Breach, Engine, EngineError, LockRequest, Project, Proof, Upgrade};
use crate::lock::LockDiff;
use crate::size::counted;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let project = session.project(&args.project)?;
    let (engine, progress) = session.engine(args.offline, None)?;
    if args.check {
        return check(&engine, &progress, &project, args.json);
    }
    check_names(&project, &args.upgrade_package)?;
    let upgrade = match (args.upgrade, &args.upgrade_package[..]) {
        (true, _) => Upgrade::All,
        (false, []) => Upgrade::None,
        (false, names) => {
            // Debian's names are not normalised, Python's are: a name is looked for as both.
            let both = |name: &String| [name.clone(), crate::wheel::normal_name(name)];
            Upgrade::Packages(names.iter().flat_map(both).collect())
        }
    };
    let result = engine.lock(&project, &LockRequest { upgrade, seal: args.seal });
    progress.finish();
    let locked = result?;
    engine.write_lock(&project, &locked)?;
    let path = project.lock_path();
    if args.json {
        out::json(&Report {
            path: path.display().to_string(),
            changed: locked.changed,
            packages: locked.lock.packages.len(),
            debs: locked.lock.debs.len(),
            sealed: sealed(&locked.lock),
            diff: locked.diff.as_ref(),
        });
    } else if !locked.changed {
        out::line(format_args!("{} is up to date", path.display()));
    } else {
        if let Some(diff) = locked.diff.as_ref().filter(|diff| !diff.is_empty()) {
            out::print(format_args!("{}\n", diff.to_string().trim_end()));
        }
        out::line(format_args!("wrote {}: {}", path.display(), summary(&locked.lock)));
    }
    Ok(Exit::Success)
}

/// A name that the lock does not have is a slip of the hand: nothing would be upgraded.
fn check_names(project: &Project, names: &[String]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let Some((lock, _)) = project.read_lock()? else { return Ok(()) };
    let known = || {
        let python = lock.packages.iter().map(|package| package.name.as_str());
        python.chain(lock.debs.iter().map(|deb| deb.name.as_str()))
    };
    for name in names {
        let normal = crate::wheel::normal_name(name);
        if !known().any(|known| known == name || known == normal) {
            let hint = did_you_mean(name, known()).map(|known| format!("did you mean `{known}`?"));
            let message = format!("the lock has no package `{}` to upgrade", on_one_line(name));
            return Err(Failure::Request { message, hint });
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Report<'a> {
    path: String,
    changed: bool,
    packages: usize,
    debs: usize,
    /// Layers of all platforms that have a seal.
    sealed: usize,
    diff: Option<&'a LockDiff>,
}

fn summary(lock: &crate::lock::Lock) -> String {
    let mut parts = Vec::new();
    if let Some(python) = &lock.python {
        parts.push(format!("Python {}", python.version));
    }
    parts.push(counted(lock.packages.len(), "Python package"));
    parts.push(counted(lock.debs.len(), "Debian package"));
    if sealed(lock) > 0 {
        parts.push(format!("{} sealed", counted(sealed(lock), "layer")));
    }
    parts.join(", ")
}

fn sealed(lock: &crate::lock::Lock) -> usize {
    lock.seals.iter().map(|seal| seal.layers.len()).sum()
}

#[derive(Serialize)]
struct Check {
    satisfied: bool,
    drift: Vec<String>,
    /// Of a sealed lock that satisfies the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    seals: Option<Seals>,
}

#[derive(Serialize)]
struct Seals {
    /// Layers of all platforms.
    layers: usize,
    sealed: usize,
    proved: usize,
    unproved: usize,
    stale: Vec<String>,
    differences: Vec<Breach>,
}

fn check(engine: &Engine, progress: &Progress, project: &Project, json: bool) -> Result<Exit, Failure> {
    let (lock, drift) = engine.check_lock(project)?;
    if !drift.is_empty() {
        if json {
            let drift = drift.iter().map(ToString::to_string).collect();
            out::json(&Check { satisfied: false, drift, seals: None });
            return Ok(Exit::LockOutOfDate);
        }
        return Err(EngineError::OutOfDate { path: project.lock_path(), drift }.into());
    }
    let proof = engine.prove_bases(project, &lock).and_then(|()| engine.prove_seals(project, &lock));
    progress.finish();
    let proof = proof?;
    if json {
        let exit = match &proof {
            Some(proof) if !proof.breaches.is_empty() => Exit::Integrity,
            Some(proof) if !proof.stale.is_empty() => Exit::LockOutOfDate,
            _ => Exit::Success,
        };
        let satisfied = exit != Exit::LockOutOfDate;
        out::json(&Check { satisfied, drift: Vec::new(), seals: proof.map(Seals::from) });
        return Ok(exit);
    }
    let summary = proof.as_ref().map(proved);
    if let Some(Proof { stale, breaches, .. }) = proof {
        if !breaches.is_empty() {
            return Err(EngineError::Layers(breaches).into());
        }
        if !stale.is_empty() {
            return Err(EngineError::Seals { path: project.lock_path(), stale }.into());
        }
    }
    out::line(format_args!("{} satisfies the spec", project.lock_path().display()));
    if let Some(summary) = summary {
        out::line(format_args!("{summary}"));
    }
    Ok(Exit::Success)
}

impl From<Proof> for Seals {
    fn from(proof: Proof) -> Self {
        let Proof { layers, sealed, proved, unproved, stale, breaches } = proof;
        Self { layers, sealed, proved, unproved, stale, differences: breaches }
    }
}

/// `5 of 7 layers are sealed; 3 seals proved, 2 not: their files are not in the store`.
fn proved(proof: &Proof) -> String {
    let Proof { layers, sealed, proved, unproved, .. } = proof;
    let mut text = match (layers - sealed, layers) {
        (0, 1) => "the only layer is sealed".to_owned(),
        (0, _) => format!("all {layers} layers are sealed"),
        _ => format!("{sealed} of {layers} layers {} sealed", if *sealed == 1 { "is" } else { "are" }),
    };
    text += &format!("; {} proved", counted(*proved, "seal"));
    if *unproved > 0 {
        let whose = if *unproved == 1 { "its" } else { "their" };
        text += &format!(", {unproved} not: {whose} files are not in the store");
    }
    text
}

//! `mlbuild lock`.

use serde::Serialize;

use super::Session;
use crate::cli::Exit;
use crate::cli::args::Lock as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::diagnostic::did_you_mean;
use crate::engine::{Engine, EngineError, LockRequest, Project, Upgrade};
use crate::lock::LockDiff;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let project = session.project(&args.project)?;
    let (engine, progress) = session.engine(args.offline, None)?;
    if args.check {
        return check(&engine, &project, args.json);
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
    let result = engine.lock(&project, &LockRequest { upgrade });
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
    diff: Option<&'a LockDiff>,
}

fn summary(lock: &crate::lock::Lock) -> String {
    let mut parts = Vec::new();
    if let Some(python) = &lock.python {
        parts.push(format!("Python {}", python.version));
    }
    parts.push(format!("{} Python packages", lock.packages.len()));
    parts.push(format!("{} Debian packages", lock.debs.len()));
    parts.join(", ")
}

#[derive(Serialize)]
struct Check {
    satisfied: bool,
    drift: Vec<String>,
}

fn check(engine: &Engine, project: &Project, json: bool) -> Result<Exit, Failure> {
    let drift = engine.check_lock(project)?;
    let satisfied = drift.is_empty();
    if json {
        out::json(&Check { satisfied, drift: drift.iter().map(ToString::to_string).collect() });
    } else if satisfied {
        out::line(format_args!("{} satisfies the spec", project.lock_path().display()));
    } else {
        return Err(EngineError::OutOfDate { path: project.lock_path(), drift }.into());
    }
    Ok(if satisfied { Exit::Success } else { Exit::LockOutOfDate })
}

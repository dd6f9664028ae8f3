//! `mlbuild push`.

mod report;

pub(super) use report::{Report, summary};

use super::Session;
use super::named::{self, Found, unknown};
use crate::cli::Exit;
use crate::cli::args::Push as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::engine::{Engine, EngineError, How, Project, PushRequest, Pushed};
use crate::oci::Reference;
use crate::store::Store;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let mut references = Vec::new();
    for text in &args.references {
        references.push(text.parse::<Reference>().map_err(|error| named::wrong(&error))?);
    }
    let own = match &args.image {
        None => Some(Own::open(args)),
        Some(_) if references.is_empty() => {
            return Err(Failure::request("--image needs to know where to: name a REF"));
        }
        Some(_) => None,
    };
    let own = match own {
        Some(Own::Absent(failure)) if references.is_empty() => return Err(failure),
        own => own,
    };
    if let Some(Own::Image { name, .. }) = &own
        && references.is_empty()
    {
        references.push(name.clone());
    }
    for tag in &args.tag {
        let first = references.first().expect("there is a reference, or an error above");
        references.push(first.with_tag(tag).map_err(|error| named::wrong(&error))?);
    }
    let (engine, progress) = session.engine(false, None)?;
    let jobs = jobs(session, engine.store(), args.image.as_deref(), &references, own)?;
    let how = How { dry_run: args.dry_run, check: args.check };
    let result = push_all(&engine, &jobs, how);
    progress.finish();
    let pushed = result?;
    if args.json {
        let reports = pushed.iter().map(|(job, pushed)| Report::new(pushed, args.dry_run, job.name()));
        out::json(&reports.collect::<Vec<_>>());
        return Ok(Exit::Success);
    }
    for (job, pushed) in &pushed {
        let text = summary(pushed, args.dry_run, true, job.other_name(pushed).as_deref());
        if args.dry_run {
            out::print(format_args!("{text}"));
            continue;
        }
        if !session.global.quiet {
            out::talk(format_args!("{text}"));
        }
        out::line(format_args!("{}", pushed.digest));
    }
    Ok(Exit::Success)
}

/// An image of the store, and where it goes.
struct Job {
    image: Found,
    to: Vec<Reference>,
}

impl Job {
    /// The image's name in the store, if it was found by one.
    fn name(&self) -> Option<&str> {
        self.image.record.as_ref().map(|record| record.reference.as_str())
    }

    /// What the image is here, if that says more than its names there.
    fn other_name(&self, there: &Pushed) -> Option<String> {
        let digest = self.image.digest.to_string();
        let same = |there: &String| match self.name() {
            Some(name) => there == name,
            None => there.ends_with(&digest),
        };
        (!there.references.iter().any(same)).then(|| self.image.label())
    }
}

fn push_all<'j>(engine: &Engine, jobs: &'j [Job], how: How) -> Result<Vec<(&'j Job, Pushed)>, Failure> {
    let mut all = Vec::new();
    for job in jobs {
        let pushed = engine.push(job.image.digest, &PushRequest { to: job.to.clone(), how })?;
        all.extend(pushed.into_iter().map(|pushed| (job, pushed)));
    }
    Ok(all)
}

/// The image of the spec beside us, which is pushed where no other is meant.
enum Own {
    Image { project: Box<Project>, name: Reference },
    Absent(Failure),
}

impl Own {
    fn open(args: &Args) -> Self {
        let project = match Project::open(&args.project.spec) {
            Ok(project) => project,
            Err(error) => return Self::Absent(error.into()),
        };
        match project.spec.image.name.as_deref().map(str::parse) {
            Some(Ok(name)) => Self::Image { project: Box::new(project), name },
            Some(Err(error)) => Self::Absent(named::wrong(&error)),
            None => Self::Absent(Failure::Request {
                message: "the spec names no image".into(),
                hint: Some("`mlbuild push REF`; `mlbuild images` lists what can be pushed".into()),
            }),
        }
    }
}

/// Which image goes where: the one that `--image` names; else the one of the store that has the reference as its name; else that
/// of the spec. The spec's own must have been built from the spec as it is now.
fn jobs(
    session: &Session,
    store: &Store,
    image: Option<&str>,
    references: &[Reference],
    own: Option<Own>,
) -> Result<Vec<Job>, Failure> {
    let fixed = match image {
        Some(image) => Some(named::find_root(store, image)?.ok_or_else(|| unknown(image))?),
        None => None,
    };
    let mut jobs: Vec<Job> = Vec::new();
    for reference in references {
        let here = match (&fixed, reference.digest()) {
            (Some(found), _) => Some(found.clone()),
            (None, Some(digest)) if store.has(&digest) => Some(Found { digest, record: None }),
            (None, _) => store.image(&reference.tagged())?.map(Found::from),
        };
        let is_own = |name: &Reference| reference.digest().is_none() && reference.tagged() == name.tagged();
        let found = match (here, &own) {
            (Some(found), Some(Own::Image { name, .. })) if !is_own(name) => found,
            (Some(found), None | Some(Own::Absent(_))) => found,
            (_, Some(Own::Image { project, name })) => {
                let record = store.image(&name.tagged())?.ok_or_else(|| not_built(reference))?;
                project.check_origin(&record)?;
                if let Some(text) = project.left_out(&record.platforms, &reference.with_default_tag()) {
                    session.warn(&text);
                }
                Found::from(record)
            }
            (None, _) => {
                return Err(match own {
                    // Its mistakes are the reason.
                    Some(Own::Absent(Failure::Engine(error)))
                        if !matches!(error, EngineError::NoSpec { .. }) =>
                    {
                        error.into()
                    }
                    _ => not_built(reference),
                });
            }
        };
        match jobs.iter_mut().find(|job| job.image.digest == found.digest) {
            Some(job) => job.to.push(reference.clone()),
            None => jobs.push(Job { image: found, to: vec![reference.clone()] }),
        }
    }
    Ok(jobs)
}

fn not_built(name: &Reference) -> Failure {
    Failure::Request {
        message: format!("no image `{}` in the store", on_one_line(&name.to_string())),
        hint: Some("`mlbuild build --push` builds and pushes the one of the spec; `mlbuild images` lists what is there".into()),
    }
}

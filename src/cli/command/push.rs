//! `mlbuild push`.

use serde::Serialize;

use super::Session;
use super::inspect::unknown;
use crate::cli::Exit;
use crate::cli::args::Push as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::engine::{Engine, Outcome, Project, PushRequest, Pushed};
use crate::oci::Reference;
use crate::size::human as bytes;
use crate::store::Store;

/// Characters of a layer's title that are shown.
const TITLE: usize = 60;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let mut references = Vec::new();
    for text in &args.references {
        references.push(reference(text)?);
    }
    let own = match (&args.image, references.is_empty()) {
        (None, _) => spec_name(args, references.is_empty())?,
        (Some(_), true) => return Err(Failure::request("--image needs to know where to: name a REF")),
        (Some(_), false) => None,
    };
    if references.is_empty() {
        references.extend(own.as_deref().map(reference).transpose()?);
    }
    for tag in &args.tag {
        let first = references.first().expect("there is a reference, or an error above");
        references.push(first.with_tag(tag).map_err(|error| Failure::request(error.to_string()))?);
    }
    let (engine, progress) = session.engine(false, None)?;
    let jobs = sources(engine.store(), args, &references, own.as_deref())?;
    let result = push_all(&engine, jobs, args.dry_run);
    progress.finish();
    let pushed = result?;
    if args.json {
        out::json(&pushed.iter().map(|pushed| Report::new(pushed, args.dry_run)).collect::<Vec<_>>());
        return Ok(Exit::Success);
    }
    for pushed in &pushed {
        if !session.global.quiet {
            out::talk(format_args!("{}", summary(pushed, args.dry_run, true)));
        }
        if !args.dry_run {
            out::line(format_args!("{}", pushed.digest));
        }
    }
    Ok(Exit::Success)
}

fn push_all(
    engine: &Engine,
    jobs: Vec<(Digest, Vec<Reference>)>,
    dry_run: bool,
) -> Result<Vec<Pushed>, Failure> {
    let mut pushed = Vec::new();
    for (root, to) in jobs {
        pushed.extend(engine.push(root, &PushRequest { to, dry_run })?);
    }
    Ok(pushed)
}

fn reference(text: &str) -> Result<Reference, Failure> {
    text.parse().map_err(|error: crate::oci::reference::ReferenceError| Failure::request(error.to_string()))
}

/// The name of the spec's image; a spec that is not there matters only if it is `needed`.
fn spec_name(args: &Args, needed: bool) -> Result<Option<String>, Failure> {
    let project = match Project::open(&args.project.spec) {
        Ok(project) => project,
        Err(_) if !needed => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match project.spec.image.name {
        None if needed => Err(Failure::Request {
            message: "the spec names no image".into(),
            hint: Some("`mlbuild push REF`; `mlbuild images` lists what can be pushed".into()),
        }),
        name => Ok(name),
    }
}

/// Which image goes where: the one that `--image` names; else the one of the store that has the reference as its name; else that
/// of the spec.
fn sources(
    store: &Store,
    args: &Args,
    references: &[Reference],
    own: Option<&str>,
) -> Result<Vec<(Digest, Vec<Reference>)>, Failure> {
    let named = |name: &str| -> Result<Option<Digest>, Failure> {
        match name.parse::<Digest>() {
            Ok(digest) => Ok(store.has(&digest).then_some(digest)),
            Err(_) => Ok(store.image(&reference(name)?.tagged())?.map(|record| record.digest)),
        }
    };
    let of_spec = || match own {
        Some(name) => named(name),
        None => Ok(None),
    };
    let fixed = match &args.image {
        Some(image) => Some(named(image)?.ok_or_else(|| unknown(image))?),
        None => None,
    };
    let mut jobs: Vec<(Digest, Vec<Reference>)> = Vec::new();
    for reference in references {
        let digest = match (fixed, reference.digest()) {
            (Some(digest), _) => digest,
            (None, Some(digest)) if store.has(&digest) => digest,
            (None, _) => match store.image(&reference.tagged())? {
                Some(record) => record.digest,
                None => of_spec()?.ok_or_else(|| not_built(&reference.to_string()))?,
            },
        };
        match jobs.iter_mut().find(|(root, _)| *root == digest) {
            Some((_, to)) => to.push(reference.clone()),
            None => jobs.push((digest, vec![reference.clone()])),
        }
    }
    Ok(jobs)
}

fn not_built(name: &str) -> Failure {
    Failure::Request {
        message: format!("no image `{}` in the store", on_one_line(name)),
        hint: Some("`mlbuild build --push` builds and pushes the one of the spec; `mlbuild images` lists what is there".into()),
    }
}

/// What a person reads of a push: with `layers`, a line for each that was sent or mounted; then the sum of it.
pub(super) fn summary(pushed: &Pushed, dry_run: bool, layers: bool) -> String {
    let mut text = String::new();
    let (mut sent, mut mounted, mut there) = ((0, 0), 0, 0);
    for blob in &pushed.blobs {
        let what = match &blob.outcome {
            Outcome::Sent => {
                sent = (sent.0 + 1, sent.1 + blob.size);
                if dry_run { "would send" } else { "sent" }
            }
            Outcome::Mounted { .. } => {
                mounted += 1;
                if dry_run { "would mount" } else { "mounted" }
            }
            Outcome::There => {
                there += 1;
                "there"
            }
        };
        if layers && blob.outcome != Outcome::There {
            let from = match &blob.outcome {
                Outcome::Mounted { from } => format!(" from {}", on_one_line(from)),
                _ => String::new(),
            };
            text += &format!("{what:<11} {:>8}  {}{from}\n", bytes(blob.size), title(&blob.title));
        }
    }
    let names: Vec<_> = pushed.references.iter().map(|name| on_one_line(name)).collect();
    let verb = if dry_run { "would push" } else { "pushed" };
    text += &format!(
        "{verb} {}: {} sent ({}), {mounted} mounted, {there} already there\n",
        names.join(", "),
        sent.0,
        bytes(sent.1)
    );
    text
}

/// The beginning of what a layer holds.
fn title(text: &str) -> String {
    let line = on_one_line(text);
    match line.char_indices().nth(TITLE) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[derive(Serialize)]
pub(super) struct Report<'a> {
    references: &'a [String],
    digest: Digest,
    dry_run: bool,
    /// Bytes of blobs that were sent.
    sent: u64,
    /// Manifests and indexes that were written.
    written: usize,
    blobs: Vec<BlobReport<'a>>,
}

#[derive(Serialize)]
struct BlobReport<'a> {
    digest: Digest,
    size: u64,
    title: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
}

impl<'a> Report<'a> {
    pub fn new(pushed: &'a Pushed, dry_run: bool) -> Self {
        let blob = |blob: &'a crate::engine::PushedBlob| {
            let (outcome, from) = match &blob.outcome {
                Outcome::Sent => ("sent", None),
                Outcome::There => ("there", None),
                Outcome::Mounted { from } => ("mounted", Some(from.as_str())),
            };
            BlobReport { digest: blob.digest, size: blob.size, title: &blob.title, outcome, from }
        };
        Self {
            references: &pushed.references,
            digest: pushed.digest,
            dry_run,
            sent: pushed.sent(),
            written: pushed.written,
            blobs: pushed.blobs.iter().map(blob).collect(),
        }
    }
}

//! `mlbuild cache`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Session;
use super::images::table;
use crate::cli::Exit;
use crate::cli::args::CacheCommand;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::size::{counted, human as bytes};
use crate::store::gc::{self, GcPlan, Roots};
use crate::store::verify;

pub fn run(session: &Session, command: &CacheCommand) -> Result<Exit, Failure> {
    match command {
        CacheCommand::Dir => {
            out::line(format_args!("{}", session.home()?.display()));
            Ok(Exit::Success)
        }
        CacheCommand::Du { json } => du(session, *json),
        CacheCommand::Prune { older_than, all, index, dry_run, json } => {
            let keep = Roots { drop_images: *all, drop_index: *index, ..Roots::default() };
            prune(session, &keep, *older_than, *dry_run, *json)
        }
        CacheCommand::Verify { repair, json } => verify(session, *repair, *json),
    }
}

#[derive(Serialize)]
struct Usage {
    files: u64,
    bytes: u64,
}

fn du(session: &Session, json: bool) -> Result<Exit, Failure> {
    let usage: BTreeMap<_, _> = gc::du(&session.store()?)?
        .into_iter()
        .map(|(kind, usage)| (kind.name().to_owned(), Usage { files: usage.files, bytes: usage.bytes }))
        .collect();
    if json {
        out::json(&usage);
        return Ok(Exit::Success);
    }
    let row = |kind: &str, usage: &Usage| [kind.to_owned(), usage.files.to_string(), bytes(usage.bytes)];
    let mut rows: Vec<_> = usage.iter().map(|(kind, usage)| row(kind, usage)).collect();
    let all = Usage {
        files: usage.values().map(|usage| usage.files).sum(),
        bytes: usage.values().map(|usage| usage.bytes).sum(),
    };
    rows.push(row("all", &all));
    out::print(format_args!("{}", table(["KIND", "FILES", "SIZE"], &rows)));
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct Pruned {
    dry_run: bool,
    files: u64,
    bytes: u64,
}

fn prune(
    session: &Session,
    keep: &Roots,
    older_than: Option<u32>,
    dry_run: bool,
    json: bool,
) -> Result<Exit, Failure> {
    let store = session.store()?;
    #[expect(clippy::disallowed_methods, reason = "age is asked for by the person")]
    let now = SystemTime::now();
    let older_than = older_than.map(|days| Duration::from_secs(u64::from(days) * 24 * 3600));
    let plan: GcPlan = if dry_run {
        gc::plan(&store, keep, now, older_than)?
    } else {
        let mut waiting = || session.note("waiting for other mlbuild processes to end");
        gc::prune(&store, keep, now, older_than, &mut waiting)?
    };
    let report = Pruned { dry_run, files: plan.files(), bytes: plan.freed() };
    if json {
        out::json(&report);
    } else {
        let verb = if dry_run { "would remove" } else { "removed" };
        out::line(format_args!("{verb} {}, {}", counted(report.files, "file"), bytes(report.bytes)));
    }
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct Verified {
    files: u64,
    bytes: u64,
    bad: Vec<BadFile>,
}

#[derive(Serialize)]
struct BadFile {
    kind: String,
    path: String,
    why: String,
    removed: bool,
}

fn verify(session: &Session, repair: bool, json: bool) -> Result<Exit, Failure> {
    let mut waiting = || session.note("waiting for other mlbuild processes to end");
    let repair = repair.then_some(&mut waiting as &mut dyn FnMut());
    let report = verify::verify(&session.store()?, repair, &|_| {})?;
    let bad = report.bad.iter().map(|bad| BadFile {
        kind: bad.kind.name().to_owned(),
        path: bad.path.display().to_string(),
        why: bad.why.clone(),
        removed: bad.removed,
    });
    let verified = Verified { files: report.files, bytes: report.bytes, bad: bad.collect() };
    if json {
        out::json(&verified);
    } else {
        for bad in &verified.bad {
            let note = if bad.removed { " (removed)" } else { "" };
            out::line(format_args!(
                "{} {}: {}{note}",
                bad.kind,
                on_one_line(&bad.path),
                on_one_line(&bad.why)
            ));
        }
        out::line(format_args!(
            "{}, {}: {} bad",
            counted(verified.files, "file"),
            bytes(verified.bytes),
            verified.bad.len()
        ));
    }
    Ok(if verified.bad.iter().all(|bad| bad.removed) { Exit::Success } else { Exit::Integrity })
}

//! `mlbuild build`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::Session;
use super::attach::{attachment, known_type};
use crate::cli::Exit;
use crate::cli::args::Build as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::{DiffId, Digest};
use crate::engine::{BuildRequest, Built, BuiltLayer, Engine};
use crate::export::Target;
use crate::oci::Reference;
use crate::plan::LayerKind;
use crate::registry::LOCK;
use crate::size::{counted, human as bytes};

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let mut targets = Vec::new();
    for output in &args.output {
        targets.push(Target::parse(output).map_err(|error| Failure::request(error.to_string()))?);
    }
    let to_stdout = targets.iter().any(Target::is_stdout);
    if to_stdout && args.json {
        return Err(Failure::request("an archive and --json cannot both go to standard output"));
    }
    if args.push && args.offline {
        return Err(Failure::request("--push needs the network, which --offline forbids"));
    }
    let project = session.project(&args.project)?;
    let attach = args.attach.iter().map(|file| {
        let is_lock = file.file_name() == project.lock_path().file_name();
        Ok((file, if is_lock { LOCK } else { known_type(file)? }))
    });
    let attach = attach.collect::<Result<Vec<_>, Failure>>()?;
    let (engine, progress) = session.engine(args.offline, args.jobs.map(usize::from))?;
    let request = BuildRequest {
        reference: args.tag.first().cloned(),
        also: args.tag.iter().skip(1).cloned().collect(),
        push: args.push,
        layer_store: args.layer_store.clone(),
        platforms: args.platform.clone(),
        targets,
        update_lock: args.update_lock,
        anonymous: false,
        bytes: false,
    };
    let result = engine.build(&project, &request).map_err(Failure::from).and_then(|built| {
        let attached = attach_all(&engine, &built, &attach)?;
        Ok((built, attached))
    });
    let times = progress.finish();
    let (built, attached) = result?;
    if args.json {
        let seconds = times.iter().fold(BTreeMap::new(), |mut all, (phase, time)| {
            *all.entry(phase.key()).or_insert(0.0) += (time.as_secs_f64() * 1000.0).round() / 1000.0;
            all
        });
        out::json(&Report { attached, ..Report::new(&built, &args.output, seconds) });
        return Ok(Exit::Success);
    }
    if !session.global.quiet {
        out::talk(format_args!("{}", summary(&built)));
        for pushed in &built.pushed {
            out::talk(format_args!("{}", super::push::summary(pushed, false, false, None)));
        }
        for AttachedReport { file, to, digest, new } in attached {
            let (file, already) = (on_one_line(&file), if new { "" } else { ", as it was before" });
            out::talk(format_args!("attached {file} to {to}: {digest}{already}\n"));
        }
        for output in &args.output {
            out::talk(format_args!("wrote {}\n", on_one_line(output)));
        }
    }
    // The archive has standard output for itself.
    if to_stdout {
        out::talk(format_args!("{}\n", built.digest));
    } else {
        out::line(format_args!("{}", built.digest));
    }
    Ok(Exit::Success)
}

/// Files to whatever was pushed; the lock is there by now.
fn attach_all(
    engine: &Engine,
    built: &Built,
    files: &[(&PathBuf, &str)],
) -> Result<Vec<AttachedReport>, Failure> {
    let mut all = Vec::new();
    for pushed in &built.pushed {
        let to = &pushed.references[0];
        let reference: Reference = to.parse().expect("it was a reference before it was printed");
        let subject = reference.with_digest(pushed.digest);
        for (file, artifact_type) in files {
            let (_, attached) = engine.attach(&subject, &attachment(file, artifact_type)?)?;
            all.push(AttachedReport {
                file: file.display().to_string(),
                to: to.clone(),
                digest: attached.descriptor.digest,
                new: attached.new,
            });
        }
    }
    Ok(all)
}

/// What a person reads: a line for each layer of each image.
fn summary(built: &Built) -> String {
    let mut text = String::new();
    for image in &built.images {
        let (mut size, mut made, mut sealed) = (0, 0, 0);
        for layer in &image.layers {
            size += layer.size;
            made += usize::from(!layer.reused);
            sealed += usize::from(layer.sealed);
            let mark = if layer.reused { " " } else { "+" };
            text += &format!(
                "{mark} {:<7} {:>8}  {}\n",
                layer.kind.as_str(),
                bytes(layer.size),
                on_one_line(&layer.title)
            );
        }
        let sealed =
            if sealed > 0 { format!(", {sealed} known by their seals alone") } else { String::new() };
        text += &format!(
            "{} {}: {} ({made} new{sealed}), {}\n",
            on_one_line(built.reference.as_deref().unwrap_or("image")),
            image.platform,
            counted(image.layers.len(), "layer"),
            bytes(size)
        );
    }
    text
}

#[derive(Serialize)]
struct Report<'a> {
    digest: Digest,
    reference: Option<&'a str>,
    locked: bool,
    images: Vec<ImageReport<'a>>,
    outputs: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pushed: Vec<super::push::Report<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attached: Vec<AttachedReport>,
    /// Phases of this run, in seconds.
    seconds: BTreeMap<&'static str, f64>,
}

#[derive(Serialize)]
struct AttachedReport {
    file: String,
    /// The image that the artifact refers to.
    to: String,
    /// Of the artifact's manifest.
    digest: Digest,
    /// It was not attached before.
    new: bool,
}

#[derive(Serialize)]
struct ImageReport<'a> {
    platform: &'static str,
    manifest: Digest,
    config: Digest,
    /// All layers, compressed, in bytes.
    size: u64,
    /// Null where a layer is known by its seal alone.
    pruned_files: Option<u64>,
    pruned_bytes: Option<u64>,
    layers: Vec<LayerReport<'a>>,
}

#[derive(Serialize)]
struct LayerReport<'a> {
    kind: LayerKind,
    title: &'a str,
    contents: &'a [String],
    digest: Digest,
    diff_id: DiffId,
    size: u64,
    unpacked: u64,
    reused: bool,
    sealed: bool,
}

impl<'a> Report<'a> {
    fn new(built: &'a Built, outputs: &'a [String], seconds: BTreeMap<&'static str, f64>) -> Self {
        let layer = |layer: &'a BuiltLayer| LayerReport {
            kind: layer.kind,
            title: &layer.title,
            contents: &layer.contents,
            digest: layer.digest,
            diff_id: layer.diff_id,
            size: layer.size,
            unpacked: layer.unpacked,
            reused: layer.reused,
            sealed: layer.sealed,
        };
        let images = built.images.iter().map(|image| ImageReport {
            platform: image.platform.as_str(),
            manifest: image.manifest,
            config: image.config,
            size: image.layers.iter().map(|layer| layer.size).sum(),
            pruned_files: image.pruned.map(|pruned| pruned.files),
            pruned_bytes: image.pruned.map(|pruned| pruned.bytes),
            layers: image.layers.iter().map(layer).collect(),
        });
        Self {
            digest: built.digest,
            reference: built.reference.as_deref(),
            locked: built.locked,
            images: images.collect(),
            outputs,
            pushed: built.pushed.iter().map(|pushed| super::push::Report::new(pushed, false, None)).collect(),
            attached: Vec::new(),
            seconds,
        }
    }
}

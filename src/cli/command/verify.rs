//! `mlbuild verify`.

use std::hash::BuildHasher as _;

use serde::Serialize;

use super::Session;
use crate::cli::Exit;
use crate::cli::args::Verify as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::{DiffId, Digest};
use crate::engine::{Breach, EngineError, Verified, VerifiedLayer, VerifyRequest};
use crate::oci::Platform;
use crate::plan::LayerKind;
use crate::size::{counted, human as bytes};

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let project = session.project(&args.project)?;
    let (engine, progress) = session.engine(args.offline, args.jobs.map(usize::from))?;
    let seed = args.seed.unwrap_or_else(random);
    let request = VerifyRequest {
        sample: args.sample.map(usize::from),
        seed,
        reference: args.tag.clone(),
        layer_store: args.layer_store.clone(),
    };
    let verified = engine.verify(&project, &request);
    progress.finish();
    let verified = verified?;
    let seed = args.sample.map(|_| seed);
    if args.json {
        out::json(&Report::new(&verified, seed));
        return Ok(if verified.breaches.is_empty() { Exit::Success } else { Exit::Integrity });
    }
    for layer in &verified.layers {
        out::line(format_args!("{}", line(layer)));
    }
    if !session.global.quiet {
        let chosen = seed.map(|seed| format!(", chosen by seed {seed}")).unwrap_or_default();
        let of = counted(verified.of, "layer");
        out::talk(format_args!("{} of {of} made anew{chosen}\n", verified.layers.len()));
    }
    if verified.breaches.is_empty() {
        Ok(Exit::Success)
    } else {
        Err(EngineError::Layers(verified.breaches).into())
    }
}

/// A seed that nobody can foresee: the standard library's for hash tables, which comes from the system's randomness.
#[expect(clippy::disallowed_types, reason = "only which layers are looked at depends on it")]
fn random() -> u64 {
    std::hash::RandomState::new().hash_one(0_u8)
}

/// What a person reads of one layer.
fn line(layer: &VerifiedLayer) -> String {
    let witnesses = [
        (layer.as_sealed, "as sealed"),
        (layer.as_stored, "as in the store"),
        (layer.as_shared, "as in the layer store"),
    ];
    let who = |verdict| witnesses.iter().filter(move |(same, _)| *same == Some(verdict)).map(|(_, who)| *who);
    let wrong: Vec<_> = who(false).map(|who| format!("NOT {who}")).collect();
    let right: Vec<_> = who(true).map(str::to_owned).collect();
    let said = match (&wrong[..], &right[..]) {
        ([], []) => "nothing to compare with".to_owned(),
        ([], right) => right.join(", "),
        (wrong, _) => wrong.join(", "),
    };
    format!(
        "{:<7} {:>8}  {}  {} ({}): {said}",
        layer.kind.as_str(),
        bytes(layer.size),
        layer.digest,
        on_one_line(&layer.title),
        layer.platform
    )
}

#[derive(Serialize)]
struct Report<'a> {
    /// Repeats the sample.
    seed: Option<u64>,
    /// Layers of all platforms.
    of: usize,
    layers: Vec<LayerReport<'a>>,
    differences: &'a [Breach],
}

#[derive(Serialize)]
struct LayerReport<'a> {
    platform: Platform,
    kind: LayerKind,
    title: &'a str,
    key: String,
    digest: Digest,
    size: u64,
    diff_id: DiffId,
    /// Null without a seal.
    as_sealed: Option<bool>,
    /// Null where the store has no record of its own.
    as_stored: Option<bool>,
    /// Null where no layer store was asked, or has nothing of it.
    as_in_layer_store: Option<bool>,
}

impl<'a> Report<'a> {
    fn new(verified: &'a Verified, seed: Option<u64>) -> Self {
        let layer = |layer: &'a VerifiedLayer| LayerReport {
            platform: layer.platform,
            kind: layer.kind,
            title: &layer.title,
            key: layer.key.hex(),
            digest: layer.digest,
            size: layer.size,
            diff_id: layer.diff_id,
            as_sealed: layer.as_sealed,
            as_stored: layer.as_stored,
            as_in_layer_store: layer.as_shared,
        };
        let layers = verified.layers.iter().map(layer).collect();
        Self { seed, of: verified.of, layers, differences: &verified.breaches }
    }
}

//! `mlbuild pull`.

use serde::Serialize;

use super::Session;
use crate::cli::Exit;
use crate::cli::args::Pull as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::digest::Digest;
use crate::engine::{PullRequest, Pulled};
use crate::oci::{Platform, Reference};
use crate::size::human as bytes;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let parse = |error: crate::oci::reference::ReferenceError| Failure::request(error.to_string());
    let reference: Reference = args.image.parse().map_err(parse)?;
    let platforms = match (&args.platform[..], args.no_layers) {
        (_, true) => Vec::new(),
        ([], false) => vec![Platform::HOST],
        (some, false) => some.to_vec(),
    };
    let (engine, progress) = session.engine(false, None)?;
    let result = engine.pull(&PullRequest { reference, platforms });
    progress.finish();
    let pulled = result?;
    if args.json {
        out::json(&Report::new(&pulled));
        return Ok(Exit::Success);
    }
    if !session.global.quiet {
        let Pulled { layers, there, size, .. } = pulled;
        let name = on_one_line(&pulled.reference);
        out::talk(format_args!("pulled {name}: {layers} layers ({there} already here), {}\n", bytes(size)));
    }
    out::line(format_args!("{}", pulled.digest));
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct Report<'a> {
    reference: &'a str,
    digest: Digest,
    platforms: &'a [Platform],
    layers: usize,
    layers_there: usize,
    /// Of these layers, in bytes.
    size: u64,
}

impl<'a> Report<'a> {
    fn new(pulled: &'a Pulled) -> Self {
        Self {
            reference: &pulled.reference,
            digest: pulled.digest,
            platforms: &pulled.platforms,
            layers: pulled.layers,
            layers_there: pulled.there,
            size: pulled.size,
        }
    }
}

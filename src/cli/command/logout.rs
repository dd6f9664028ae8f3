//! `mlbuild logout`.

use serde::Serialize;

use super::Session;
use super::login::{Place, registry};
use crate::cli::Exit;
use crate::cli::args::Logout as Args;
use crate::cli::failure::Failure;
use crate::cli::out;

#[derive(Serialize)]
struct Report<'a> {
    registry: &'a str,
    /// What has forgotten it; nothing where nothing knew it.
    forgotten: Vec<Place>,
}

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let host = registry(args.registry.as_deref(), &args.project)?;
    let keychain = session.keychain();
    let forgotten = keychain.forget(&host)?;
    if let Ok(Some((_, source))) = keychain.find(&host) {
        session
            .warn(&format!("{source} still has a credential for {host}, which is not mlbuild's to change"));
    }
    session.warnings_of(&keychain);
    if forgotten.is_empty() {
        session.note(&format!("there was no credential for {host} to forget"));
    }
    if args.json {
        let forgotten = forgotten.into_iter().map(Place::from).collect();
        out::json(&Report { registry: host.as_str(), forgotten });
    } else {
        for source in forgotten {
            out::line(format_args!("credential for {host} removed from {source}"));
        }
    }
    Ok(Exit::Success)
}

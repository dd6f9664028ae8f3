//! `[[wheel]]`: exceptions for single files.

use super::super::check::quoted;
use super::super::source::Place;
use super::super::{model, wire};
use crate::diagnostic::Diagnostic;
use crate::digest::Digest;

pub(super) fn exceptions(
    wheels: Vec<wire::Wheel>,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> Vec<model::WheelException> {
    let mut exceptions: Vec<model::WheelException> = Vec::new();
    for (at, wheel) in wheels.into_iter().enumerate() {
        let place = place.at(at);
        let hash = place.get("sha256");
        if wheel.reason.trim().is_empty() {
            found.push(Diagnostic::error(
                "`reason` in [[wheel]] must not be empty",
                place.get("reason").span(),
            ));
        }
        let text = wheel.sha256.trim();
        // Tools print it either way.
        let hex = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
        let Ok(sha256) = Digest::from_hex(&hex) else {
            found.push(
                Diagnostic::error(format!("{} is not a SHA-256", quoted(text)), hash.span())
                    .hint("64 hexadecimal digits, as the lock has them for each wheel"),
            );
            continue;
        };
        if exceptions.iter().any(|known| known.sha256 == sha256) {
            found.push(
                Diagnostic::error(format!("two [[wheel]] have the SHA-256 {}", sha256.hex()), hash.span())
                    .hint("name all rules in one `allow`"),
            );
            continue;
        }
        let mut allow = Vec::new();
        for (at, rule) in wheel.allow.into_iter().enumerate() {
            if allow.contains(&rule) {
                let message = format!("rule `{}` is named twice", rule.as_str());
                found.push(Diagnostic::warning(message, place.get("allow").at(at).span()));
            } else {
                allow.push(rule);
            }
        }
        allow.sort();
        exceptions.push(model::WheelException { sha256, allow });
    }
    exceptions.sort();
    exceptions
}

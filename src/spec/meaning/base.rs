//! `[base]`.

use super::super::check::quoted;
use super::super::source::Place;
use super::super::{model, wire};
use super::words;
use crate::diagnostic::Diagnostic;
use crate::oci::Reference;

pub(super) fn base(base: wire::Base, place: &Place<'_>, found: &mut Vec<Diagnostic>) -> model::Base {
    exactly_one(&base, place, found);
    let Apart { reference, packages } = apart(&base, place, found);
    if base.debian.is_none() && (base.scratch.is_some() || base.oci.is_some()) {
        for key in ["snapshot", "packages", "mirrors"] {
            if place.has(key) {
                let message = format!("`{key}` in [base] is for `debian` only");
                let diagnostic = Diagnostic::error(message, place.get(key).key_span());
                found.push(match base.oci {
                    Some(_) => diagnostic
                        .hint("an image of a registry is taken as it is: what it lacks is added to it there"),
                    None => diagnostic,
                });
            }
        }
    }
    match (base.debian, reference) {
        (Some(suite), _) => model::Base::Debian(model::Debian {
            suite: match suite {
                wire::Suite::Bookworm => model::Suite::Bookworm,
                wire::Suite::Trixie => model::Suite::Trixie,
            },
            snapshot: base.snapshot,
            packages,
            mirrors: base.mirrors.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
        }),
        (None, Some(reference)) => model::Base::Oci(reference),
        // One that was refused above: what follows is not to be judged as if nothing had been asked for.
        (None, None) if base.oci.is_some() => model::Base::Oci("refused".parse().expect("it is a name")),
        (None, None) => model::Base::Scratch,
    }
}

pub(super) struct Apart {
    reference: Option<Reference>,
    packages: Vec<String>,
}

/// What each key says by itself.
pub(super) fn apart(base: &wire::Base, place: &Place<'_>, found: &mut Vec<Diagnostic>) -> Apart {
    let reference = base.oci.as_ref().and_then(|text| reference(text, &place.get("oci"), found));
    if base.scratch == Some(false) {
        found.push(
            Diagnostic::error("`scratch` in [base] can only be true", place.get("scratch").span())
                .hint("leave it out, and say `debian = \"bookworm\"`"),
        );
    }
    if let Some(snapshot) = &base.snapshot {
        check_snapshot(snapshot, &place.get("snapshot"), found);
    }
    let mirrors = place.get("mirrors");
    for (at, mirror) in base.mirrors.iter().enumerate() {
        words::check_url(mirror, "mirror", &mirrors.at(at), found);
    }
    Apart { reference, packages: words::debian_names(&base.packages, &place.get("packages"), found) }
}

/// A reference names its registry: there is none that goes without saying.
fn reference(text: &str, place: &Place<'_>, found: &mut Vec<Diagnostic>) -> Option<Reference> {
    let refuse = |rule: &str| Diagnostic::error(format!("base {} {rule}", quoted(text)), place.span());
    if text.contains("://") {
        found.push(refuse("has a scheme").hint("write host and path only: `registry.example/team/base:1.0`"));
        return None;
    }
    match text.parse::<Reference>() {
        Ok(reference) if reference.registry().is_some() => Some(reference),
        Ok(reference) => {
            found.push(
                refuse("names no registry")
                    .hint(format!("write the registry's host before it: `registry.example/{reference}`")),
            );
            None
        }
        Err(error) => {
            found.push(refuse(&format!("is not the name of an image: {}", error.rule)));
            None
        }
    }
}

fn exactly_one(base: &wire::Base, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let named: Vec<&str> =
        [("debian", base.debian.is_some()), ("oci", base.oci.is_some()), ("scratch", base.scratch.is_some())]
            .into_iter()
            .filter_map(|(key, is)| is.then_some(key))
            .collect();
    match named.as_slice() {
        [] => found.push(Diagnostic::error("[base] names no base", place.key_span()).hint(
            "say `debian = \"bookworm\"`, or `scratch = true` for an image without a file of any system",
        )),
        [_] => {}
        [first, rest @ ..] => {
            for key in rest {
                let mut diagnostic = Diagnostic::error(
                    format!("[base] has both `{first}` and `{key}`"),
                    place.get(key).key_span(),
                );
                if let Some(span) = place.get(first).key_span() {
                    diagnostic = diagnostic.label(span, "the first base");
                }
                found.push(diagnostic.hint("an image has one base: leave one of them out"));
            }
        }
    }
}

/// `YYYYMMDDTHHMMSSZ`, as snapshot archives name their states.
fn check_snapshot(text: &str, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let digits = |range: std::ops::Range<usize>| {
        text.get(range)
            .filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|part| part.parse::<u32>().ok())
    };
    let shape = text.len() == 16 && text.as_bytes()[8] == b'T' && text.ends_with('Z');
    let fields = shape
        .then(|| {
            Some((
                digits(0..4)?,
                digits(4..6)?,
                digits(6..8)?,
                digits(9..11)?,
                digits(11..13)?,
                digits(13..15)?,
            ))
        })
        .flatten();
    let refuse = |rule: &str| Diagnostic::error(format!("snapshot {} {rule}", quoted(text)), place.span());
    match fields {
        None => {
            let date: String = text.chars().filter(char::is_ascii_digit).take(8).collect();
            let example = if is_date(&date) { date } else { "20261101".to_owned() };
            found.push(
                refuse("is not a time of the archive")
                    .hint(format!("written as date, `T`, time and `Z`: \"{example}T000000Z\"")),
            );
        }
        Some((year, month, day, hour, minute, second)) => {
            if !is_date(&text[..8]) || hour > 23 || minute > 59 || second > 59 {
                found.push(refuse("is no date and time of the calendar"));
            } else if year < 2005 || (year, month, day) < (2005, 3, 12) {
                found.push(refuse("is older than any state of the archive that was kept"));
            }
        }
    }
}

/// `YYYYMMDD`, a day of the calendar.
pub(super) fn is_date(text: &str) -> bool {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap_or(0);
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    year > 0 && (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        for (text, is) in [
            ("20261101", true),
            ("20240229", true),
            ("20250229", false),
            ("20000229", true),
            ("19000229", false),
            ("20261301", false),
            ("20261131", false),
            ("20261100", false),
            ("00000101", false),
            ("2026-1-1", false),
        ] {
            assert_eq!(is_date(text), is, "{text}");
        }
    }
}

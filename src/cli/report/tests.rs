use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::spec::{self, Parsed};

#[test]
fn place_text_labels_and_hints() {
    let source = "[base]\ndebian = \"bookwrm\"\noci = \"x\"\n";
    let diagnostics = [
        Diagnostic::error("unknown value `bookwrm`", Some(16..25))
            .label(26..29, "another base")
            .hint("did you mean `bookworm`?")
            .hint("second"),
        Diagnostic::warning("nothing to see", None).hint("go on"),
    ];
    insta::assert_snapshot!(render(&diagnostics, "mlbuild.toml", source, false));
    let colored = render(&diagnostics, "mlbuild.toml", source, true);
    assert!(colored.contains("\u{1b}["));
    assert_eq!(render(&[], "mlbuild.toml", source, true), "");
}

#[test]
fn nothing_reaches_the_terminal_raw() {
    let hostile = "\u{1b}]0;title\u{7}\u{9b}31m\r\u{8}\0\u{7f}\u{202e}\u{200b}\u{e0041}\u{85}";
    let source = format!("key = '{hostile}' # {hostile}\nnext = 1\n");
    let at = source.find('=').unwrap();
    for color in [false, true] {
        let diagnostic = Diagnostic::error(format!("a {hostile}\nb"), Some(0..at))
            .label(at..source.len() - 3, hostile)
            .hint(hostile);
        let text = render(&[diagnostic], hostile, &source, color);
        // What the renderer itself writes: colours and newlines.
        let mut rest = text.as_str();
        while let Some(escape) = rest.find('\u{1b}') {
            assert!(color);
            let sequence = &rest[escape + 1..];
            let end = sequence.find('m').unwrap();
            assert!(sequence[..end].starts_with('['), "{sequence:?}");
            assert!(sequence[1..end].bytes().all(|b| b.is_ascii_digit() || b == b';'), "{sequence:?}");
            rest = &sequence[end..];
        }
        for c in text.chars().filter(|&c| c != '\u{1b}') {
            assert!(c == '\n' || !is_hostile(c), "{c:?} in {text:?}");
        }
    }
}

/// Whatever spans a diagnostic has, there is a text and no panic.
#[test]
fn odd_spans_and_sources() {
    let long = format!("a = '{}'", "é".repeat(200_000));
    for source in ["", "\n", "é", "a\r\nb\r\n", "a\rb", "\u{feff}a = 1", "日本 = 1\n\tx = 2", &long] {
        for (start, end) in [(0, 0), (0, 1), (1, 1), (1, 2), (2, 1), (3, 9), (5, usize::MAX), (7, 200_007)] {
            let span = start..end;
            let diagnostic = Diagnostic::error("odd", Some(span.clone())).label(span, "too");
            let text = render(&[diagnostic], "f", source, false);
            assert!(text.contains("error: odd"), "{text}");
            assert!(text.len() < 2_000, "{} bytes", text.len());
        }
    }
}

#[test]
fn lines_are_numbered_from_the_whole_text() {
    let source = format!("{}here = 1\n", "# comment\n".repeat(41));
    let at = source.find("here").unwrap();
    let text = render(&[Diagnostic::error("x", Some(at..at + 4))], "f", &source, false);
    assert!(text.contains("--> f:42:1"), "{text}");
}

/// The renderer takes its time for each line that it is given: of a line of a megabyte the place is said, and a label that is
/// a megabyte away is left out.
#[test]
fn long_texts_are_not_shown_whole() {
    let source = format!("above = 1\na = {{ {}here = 1 }}\nbelow = 1\n", "é = 1, ".repeat(100_000));
    let at = |name: &str| {
        let start = source.find(name).unwrap();
        start..start + name.len()
    };
    let text = render(&[Diagnostic::error("x", Some(at("here"))).hint("y")], "f", &source, false);
    assert_eq!(text, "error: x\n--> f:2:700007\n = hint: y\n");
    let below = Diagnostic::error("x", Some(at("below"))).label(at("above"), "far").label(at("elow"), "near");
    let text = render(&[below], "f", &source, false);
    assert!(text.contains("--> f:3:1\n") && text.contains("below = 1\n"), "{text}");
    assert!(text.contains("near") && !text.contains("far") && text.len() < 200, "{text}");
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/specs")
}

/// The specs in a directory of the fixtures, by name without ending; with the directory's other files.
fn specs_in(directory: &str) -> (Vec<(String, String)>, BTreeSet<String>) {
    let (mut specs, mut others) = (Vec::new(), BTreeSet::new());
    for entry in fs::read_dir(fixtures().join(directory)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match name.strip_suffix(".toml") {
            Some(stem) => specs.push((stem.to_owned(), fs::read_to_string(&path).unwrap())),
            None => {
                others.insert(name);
            }
        }
    }
    specs.sort();
    (specs, others)
}

/// Compares what is said about each spec of a directory with the `.snap` beside it.
fn check_snapshots(directory: &str, said: impl Fn(&str, &str) -> Vec<Diagnostic>) {
    let (specs, mut others) = specs_in(directory);
    assert!(!specs.is_empty(), "{directory}");
    for (name, text) in &specs {
        let diagnostics = said(name, text);
        assert!(!diagnostics.is_empty(), "{directory}/{name}.toml: nothing to say");
        let mut settings = insta::Settings::clone_current();
        // Relative to this file, which lies in src/cli/report.
        settings.set_snapshot_path(Path::new("../../../fixtures/specs").join(directory));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let report = render(&diagnostics, &format!("{name}.toml"), text, false);
        settings.bind(|| insta::assert_snapshot!(name.as_str(), report));
        others.remove(&format!("{name}.snap"));
    }
    assert_eq!(others, BTreeSet::new(), "files that belong to no spec in {directory}");
}

#[test]
fn every_mistake_is_said_well() {
    check_snapshots("invalid", |name, text| match spec::parse(text) {
        Ok(_) => panic!("invalid/{name}.toml is accepted"),
        Err(found) => found,
    });
}

#[test]
fn every_warning_is_said_well() {
    check_snapshots("warnings", |name, text| match spec::parse(text) {
        Ok(Parsed { warnings, .. }) => warnings,
        Err(found) => panic!("{}", render(&found, name, text, false)),
    });
}

#[test]
fn good_specs_are_accepted_without_a_word() {
    let mut read = 0;
    for directory in ["valid", "."] {
        let (specs, others) = specs_in(directory);
        for (name, text) in specs {
            match spec::parse(&text) {
                Ok(parsed) => assert_eq!(parsed.warnings, [], "{name}"),
                Err(found) => panic!("{}", render(&found, &format!("{directory}/{name}.toml"), &text, false)),
            }
            read += 1;
        }
        let folders = if directory == "." { vec!["invalid", "valid", "warnings"] } else { Vec::new() };
        assert_eq!(others, folders.into_iter().map(str::to_owned).collect(), "files that nobody reads");
    }
    assert!(read >= 8);
}

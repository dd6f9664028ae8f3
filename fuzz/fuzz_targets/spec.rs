//! Specs: the same text gets the same answer; every place that a message names lies within the text; the report shows
//! them all and sends nothing to the terminal that a terminal obeys.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::cli::report;
use mlbuild_fuzz::diagnostic::{Diagnostic, Severity};
use mlbuild_fuzz::spec;

fuzz_target!(|text: &str| {
    let parsed = spec::parse(text);
    let diagnostics = match &parsed {
        Ok(parsed) => {
            assert!(parsed.warnings.iter().all(|diagnostic| diagnostic.severity == Severity::Warning));
            &parsed.warnings
        }
        Err(found) => {
            assert!(found.iter().any(|diagnostic| diagnostic.severity == Severity::Error));
            found
        }
    };
    assert_eq!(spec::parse(text), parsed);
    diagnostics.iter().for_each(|diagnostic| places(diagnostic, text));
    let shown = report::render(diagnostics, "mlbuild.toml", text, false);
    let harmless = |c: char| c == '\n' || !c.is_control();
    assert!(shown.chars().all(harmless), "{shown:?}");

    for file in ["pyproject.toml", "uv.lock", "requirements.txt"] {
        if let Ok(made) = spec::starter::from_file("demo", file, text) {
            let parsed = spec::parse(&made);
            assert!(parsed.is_ok_and(|parsed| parsed.warnings.is_empty()), "{made}");
        }
    }
});

fn places(diagnostic: &Diagnostic, text: &str) {
    let spans = diagnostic.span.iter().chain(diagnostic.labels.iter().map(|(span, _)| span));
    for span in spans {
        assert!(text.get(span.clone()).is_some(), "{span:?} of {} bytes: {}", text.len(), diagnostic.message);
    }
    assert!(!diagnostic.message.is_empty() && !diagnostic.message.ends_with('.'), "{}", diagnostic.message);
}

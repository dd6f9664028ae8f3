//! What a stage has to say about a text that a person wrote: message, place, hints. No printing here; `cli::report`
//! renders it.

use std::error::Error;
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// One mistake (or warning) in a source text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// A lower-case fragment without a final stop: "unknown key `pakages` in [base]".
    pub message: String,
    /// Bytes of the source text that are meant; none for what is missing altogether.
    pub span: Option<Range<usize>>,
    /// Further places: "first defined here".
    pub labels: Vec<(Range<usize>, String)>,
    /// What to do about it, each a sentence fragment.
    pub hints: Vec<String>,
}

impl Diagnostic {
    pub fn error(message: impl Into<String>, span: Option<Range<usize>>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span,
            labels: Vec::new(),
            hints: Vec::new(),
        }
    }

    pub fn warning(message: impl Into<String>, span: Option<Range<usize>>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message, span) }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    #[must_use]
    pub fn label(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push((span, text.into()));
        self
    }
}

/// The known name nearest to `name`, when it is near enough to be a slip of the hand.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let len = name.chars().count();
    let allowed = (len / 3).max(1);
    known
        .into_iter()
        // Each character more is one step at least; to count the steps takes long.
        .filter(|candidate| candidate.chars().count().abs_diff(len) <= allowed)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// An error with its causes in one line, none said twice.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered() {
        let known = ["packages", "snapshot", "debian"];
        assert_eq!(did_you_mean("pakages", known), Some("packages"));
        assert_eq!(did_you_mean("snapshto", known), Some("snapshot"));
        assert_eq!(did_you_mean("entrypoint", known), None);
    }
}

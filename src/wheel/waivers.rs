//! Exceptions: rules that the spec lets one wheel break, by its SHA-256.
//!
//! Real archives are sloppy now and then. What may be waived ([`WheelRule`]) leaves a file that can still be read in one
//! way only, and an image that is a function of its bytes; the installed `RECORD` is right all the same. Whatever could
//! lead out of the tree, show two readers two archives, or hide content (overlaps, links, second names, lying sizes)
//! cannot be waived.

use std::collections::BTreeSet;

use crate::spec::model::WheelRule;

/// The rules waived for one wheel, and those of them that it turned out to break.
#[derive(Debug, Clone, Default)]
pub struct Waivers {
    allowed: BTreeSet<WheelRule>,
    used: BTreeSet<WheelRule>,
}

impl Waivers {
    pub fn new(allow: &[WheelRule]) -> Self {
        Self { allowed: allow.iter().copied().collect(), used: BTreeSet::new() }
    }

    /// Whether `rule`, which is broken, may be.
    pub(super) fn take(&mut self, rule: WheelRule) -> bool {
        let allowed = self.allows(rule);
        if allowed {
            self.used.insert(rule);
        }
        allowed
    }

    pub(super) fn allows(&self, rule: WheelRule) -> bool {
        self.allowed.contains(&rule)
    }

    /// What a person may want to know of them, a sentence each.
    pub(super) fn notes(&self, file: &str) -> Vec<String> {
        let words = |rules: Vec<&WheelRule>| {
            rules.into_iter().map(|rule| rule.as_str()).collect::<Vec<_>>().join(", ")
        };
        let used = words(self.used.iter().collect());
        let unused = words(self.allowed.difference(&self.used).collect());
        let mut notes = Vec::new();
        if !used.is_empty() {
            notes.push(format!("{file} breaks rules, as its [[wheel]] allows: {used}"));
        }
        if !unused.is_empty() {
            notes.push(format!("{file} does not need all that its [[wheel]] allows: {unused}"));
        }
        notes
    }
}

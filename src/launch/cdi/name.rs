//! Names of kinds and devices: `nvidia.com/gpu`, `nvidia.com/gpu=0`.

use std::fmt;
use std::str::FromStr;

use super::error::CdiError;

/// Vendor and class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub vendor: String,
    pub class: String,
}

impl Kind {
    pub fn new(vendor: &str, class: &str) -> Self {
        Self { vendor: vendor.to_owned(), class: class.to_owned() }
    }

    /// The kind, or the rule of the specification that it breaks, as the rest of a sentence.
    pub(super) fn parse(kind: &str) -> Result<Self, String> {
        let Some((vendor, class)) = kind.split_once('/') else {
            return Err(format!("is `{kind}`, not of the form vendor.com/class"));
        };
        part("vendor", vendor, 253)?;
        part("class", class, 63)?;
        Ok(Self::new(vendor, class))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.class)
    }
}

fn part(what: &str, text: &str, longest: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("has an empty {what}"));
    }
    if text.len() > longest {
        return Err(format!("has a {what} of more than {longest} characters"));
    }
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.starts_with(|c: char| c.is_ascii_alphabetic())
        || !text.ends_with(|c: char| c.is_ascii_alphanumeric())
        || !text.chars().all(inner)
    {
        return Err(format!(
            "has the {what} `{text}`: letters and digits with `_`, `-` and `.` between, a letter first"
        ));
    }
    Ok(())
}

/// The rule that a device's name breaks.
pub(super) fn device(name: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    let edge = |c: char| c.is_ascii_alphanumeric();
    match name.starts_with(edge) && name.ends_with(edge) && name.chars().all(inner) {
        true => Ok(()),
        false => Err(format!("is `{name}`: letters and digits with `_`, `-`, `.` and `:` between")),
    }
}

/// `vendor/class=device`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct QualifiedName {
    pub kind: Kind,
    pub device: String,
}

impl FromStr for QualifiedName {
    type Err = CdiError;

    fn from_str(name: &str) -> Result<Self, CdiError> {
        let parse = || {
            let (kind, name) = name.split_once('=')?;
            device(name).ok()?;
            Some(Self { kind: Kind::parse(kind).ok()?, device: name.to_owned() })
        };
        parse().ok_or_else(|| CdiError::Name { name: name.to_owned() })
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

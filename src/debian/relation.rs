//! Relations between packages: `Depends: a (>= 1), b:any | c` (deb-control(5), "RELATIONSHIPS").
//!
//! Only the form that binary packages use is read: build profiles and architecture lists belong to source packages
//! and are refused.

use std::cmp::Ordering;

use super::version;

/// One package named by a relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    pub name: &'a str,
    /// `any` or an architecture, from `name:any`.
    pub qualifier: Option<&'a str>,
    pub version: Option<(Operator, &'a str)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

/// Alternatives, of which one suffices.
pub type Clause<'a> = Vec<Relation<'a>>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("relation `{0}` is not of the form `name[:arch] [(operator version)]`")]
pub struct RelationError(String);

impl Operator {
    /// Whether `found` stands in this relation to `wanted`.
    pub fn admits(self, found: &str, wanted: &str) -> bool {
        let order = version::compare(found, wanted);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierOrEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::LaterOrEqual => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }
}

impl std::fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = self.version {
            write!(f, " ({} {version})", operator.as_str())?;
        }
        Ok(())
    }
}

/// A clause as it is written: `a | b`.
pub fn show(clause: &[Relation<'_>]) -> String {
    clause.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

/// All clauses of a field's value.
pub fn parse(field: &str) -> Result<Vec<Clause<'_>>, RelationError> {
    field
        .split(',')
        .map(str::trim)
        .filter(|clause| !clause.is_empty())
        .map(|clause| clause.split('|').map(|relation| parse_relation(relation.trim())).collect())
        .collect()
}

/// Whether `name` can name a package.
pub fn is_package_name(name: &str) -> bool {
    name.len() >= 2
        && name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}

fn parse_relation(text: &str) -> Result<Relation<'_>, RelationError> {
    let refuse = || RelationError(text.chars().take(100).collect());
    let (head, version) = match text.split_once('(') {
        None => (text, None),
        Some((head, rest)) => {
            let inner = rest.strip_suffix(')').ok_or_else(refuse)?.trim();
            let at = inner.find(|c| !"<=>".contains(c)).ok_or_else(refuse)?;
            let operator = match &inner[..at] {
                "<<" => Operator::Earlier,
                "<=" | "<" => Operator::EarlierOrEqual,
                "=" => Operator::Equal,
                ">=" | ">" => Operator::LaterOrEqual,
                ">>" => Operator::Later,
                _ => return Err(refuse()),
            };
            let wanted = inner[at..].trim();
            if !version::is_valid(wanted) {
                return Err(refuse());
            }
            (head.trim_end(), Some((operator, wanted)))
        }
    };
    let (name, qualifier) = match head.split_once(':') {
        None => (head, None),
        Some((name, qualifier)) => (name, Some(qualifier)),
    };
    let odd = |q: &str| q.is_empty() || !q.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_package_name(name) || qualifier.is_some_and(odd) {
        return Err(refuse());
    }
    Ok(Relation { name, qualifier, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_read_and_show() {
        let field = "libc6 (>= 2.36), python3:any (<< 3.12), debconf (>= 0.5)|debconf-2.0, aa (= 1:2)";
        let clauses = parse(field).unwrap();
        let shown: Vec<_> = clauses.iter().map(|clause| show(clause)).collect();
        assert_eq!(
            shown,
            ["libc6 (>= 2.36)", "python3:any (<< 3.12)", "debconf (>= 0.5) | debconf-2.0", "aa (= 1:2)"]
        );
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn other_forms_are_refused() {
        for field in
            ["a [amd64]", "A", "a (1)", "a (~> 1)", "a (>= 1", "a <!nocheck>", "a:", "a |", "../a", "a (= /)"]
        {
            assert!(parse(field).is_err(), "{field}");
        }
    }

    #[test]
    fn operators_admit() {
        for (operator, below, same, above) in [
            (Operator::Earlier, true, false, false),
            (Operator::EarlierOrEqual, true, true, false),
            (Operator::Equal, false, true, false),
            (Operator::LaterOrEqual, false, true, true),
            (Operator::Later, false, false, true),
        ] {
            let found = ["1~", "1", "1.1"].map(|version| operator.admits(version, "1"));
            assert_eq!(found, [below, same, above], "{operator:?}");
        }
    }
}

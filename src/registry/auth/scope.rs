//! What a token is to allow.

use std::collections::BTreeMap;

/// Repositories, and whether they are written to as well as read. Empty is a token that only says who one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::registry) struct Scopes(BTreeMap<String, bool>);

impl Scopes {
    pub fn none() -> Self {
        Self::default()
    }

    pub fn pull(repository: &str) -> Self {
        Self([(repository.to_owned(), false)].into())
    }

    pub fn push(repository: &str) -> Self {
        Self([(repository.to_owned(), true)].into())
    }

    /// And to read from another, in the same token: what a mount needs.
    pub fn and_pull(mut self, repository: &str) -> Self {
        self.0.entry(repository.to_owned()).or_default();
        self
    }

    /// A token for these is good for `wanted`.
    pub fn cover(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(repository, push)| self.0.get(repository).is_some_and(|may| may >= push))
    }

    /// As token servers write them (the distribution project's "Token Scope").
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(repository, push)| {
            format!("repository:{repository}:{}", if *push { "pull,push" } else { "pull" })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_covers_less() {
        let mount = Scopes::push("a").and_pull("b");
        assert_eq!(mount.texts().collect::<Vec<_>>(), ["repository:a:pull,push", "repository:b:pull"]);
        for (wanted, covered) in [
            (Scopes::none(), true),
            (Scopes::pull("a"), true),
            (Scopes::push("a"), true),
            (Scopes::pull("b"), true),
            (Scopes::push("b"), false),
            (Scopes::pull("c"), false),
        ] {
            assert_eq!(mount.cover(&wanted), covered, "{wanted:?}");
        }
        assert_eq!(Scopes::push("a").and_pull("a"), Scopes::push("a"));
    }
}

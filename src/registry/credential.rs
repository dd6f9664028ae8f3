//! What a registry is shown to let somebody in, and where that comes from.

use std::fmt;

use super::Host;

/// A text that no message and no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For the header or the form that it goes into, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What a registry, or its token server, is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// User and password: RFC 7617, or what a token server asks for.
    Basic { user: String, password: Secret },
    /// A refresh token of OAuth 2 (RFC 6749, 6), which Docker calls an identity token.
    Identity(Secret),
    /// A bearer token as it is (RFC 6750), which Docker calls a registry token.
    Bearer(Secret),
}

/// Whoever knows credentials.
pub trait Keychain: Send + Sync {
    /// The credential for exactly this host and port; none is anonymous. It may ask a program.
    fn credential(&self, host: &Host) -> Result<Option<Credential>, KeychainError>;
}

/// A keychain that says what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the credential for {host} from {source_name}: {problem}")]
pub struct KeychainError {
    pub host: Host,
    /// The file or the helper program.
    pub source_name: String,
    /// Without anything secret.
    pub problem: String,
}

/// Knows none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Keychain for Anonymous {
    fn credential(&self, _: &Host) -> Result<Option<Credential>, KeychainError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let secret = || Secret::new("hunter2");
        for credential in [
            Credential::Basic { user: "me".into(), password: secret() },
            Credential::Identity(secret()),
            Credential::Bearer(secret()),
        ] {
            assert!(!format!("{credential:?}").contains("hunter2"));
        }
    }
}

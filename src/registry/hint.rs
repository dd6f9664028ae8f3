//! What helps against an error of a registry: a word, or the lines that the user's configuration lacks.

use std::path::Path;

use super::error::Remedy;
use super::{Host, RegistryError};
use crate::diagnostic::chain;

impl RegistryError {
    /// `configuration` is where the user says how registries are reached.
    pub fn hints(&self, configuration: &Path) -> Vec<String> {
        let lines = |host: &Host, when: &str, lines: &str| {
            format!("{when}, say so in {}:\n[registries.\"{host}\"]\n{lines}", configuration.display())
        };
        let hint = match self {
            Self::Login { remedy: Remedy::Nothing, .. } => return Vec::new(),
            Self::Login { remedy: Remedy::Do(hint), .. } => hint.clone(),
            Self::Login { at, remedy: Remedy::Realm(realm), .. } => lines(
                &at.host,
                "if that token server may see the credential",
                &format!("realms = [\"{realm}\"]"),
            ),
            Self::Refused { at, status: 401 | 403, .. } => {
                format!("`mlbuild login {}` as somebody who may do this", at.host)
            }
            Self::Refused { at, status: 404, .. } if at.asked.starts_with("write") => {
                format!("some registries want `{}` to be created before it is pushed to", at.repository)
            }
            Self::Refused { status: 413, .. } => {
                "the registry, or a proxy before it, limits the size of what it takes".to_owned()
            }
            Self::Refused { status: 429, .. } => {
                "the registry limits how often it is asked: try later".to_owned()
            }
            Self::TooLarge { at, .. } if at.asked.starts_with("write blob") => {
                format!("the limit is `max-layer` of {} in {}", at.host, configuration.display())
            }
            Self::Http { at, source } => {
                let said = chain(source);
                let is = |sign: &str| said.contains(sign);
                if is("CaUsedAsEndEntity") {
                    "its certificate is that of an authority (CA:TRUE), which no server may show: make it one with \
                     `basicConstraints=CA:FALSE`"
                        .to_owned()
                } else if is("UnknownIssuer") {
                    let ca = "ca = [\"/path/to/authority.pem\"]";
                    lines(&at.host, "if you trust the authority that signed its certificate", ca)
                } else if is("CertificateRequired") {
                    let own =
                        "client-certificate = \"/path/to/client.pem\"\nclient-key = \"/path/to/client.key\"";
                    lines(&at.host, "if you have the client certificate that it wants", own)
                } else if is("InvalidContentType") {
                    let when = "if it speaks plain HTTP, and nobody else is on the way to it";
                    lines(&at.host, when, "insecure = true")
                } else if is("Connection refused") {
                    format!("does a registry listen at {}?", at.host)
                } else {
                    return Vec::new();
                }
            }
            _ => return Vec::new(),
        };
        vec![hint]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpError;
    use crate::registry::At;

    fn at() -> At {
        let host = "registry.example".parse().unwrap();
        At { host, repository: "team/app".into(), asked: "write manifest 1.0".into() }
    }

    fn hints(error: &RegistryError) -> Vec<String> {
        error.hints(Path::new("/h/config.toml"))
    }

    #[test]
    fn who_can_help() {
        let refused = |status| RegistryError::Refused { at: at(), status, codes: Vec::new() };
        for status in [401, 403, 404, 413, 429] {
            assert_eq!(hints(&refused(status)).len(), 1, "{status}");
        }
        assert!(hints(&refused(500)).is_empty());
    }

    #[test]
    fn what_the_configuration_lacks_is_written_out() {
        let cannot_connect = |said: &str| RegistryError::Http {
            at: at(),
            source: HttpError::Connect { url: "https://registry.example/".into(), source: said.into() },
        };
        let login = |remedy| RegistryError::Login { at: at(), problem: "no".into(), remedy };
        let tell = "say so in /h/config.toml:\n[registries.\"registry.example\"]";
        for (error, line) in [
            (cannot_connect("invalid peer certificate: UnknownIssuer"), "ca = [\"/path/to/authority.pem\"]"),
            (cannot_connect("received corrupt message of type InvalidContentType"), "insecure = true"),
            (
                cannot_connect("received fatal alert: CertificateRequired"),
                "client-certificate = \"/path/to/client.pem\"\nclient-key = \"/path/to/client.key\"",
            ),
            (login(Remedy::Realm("auth.example:8443".parse().unwrap())), "realms = [\"auth.example:8443\"]"),
        ] {
            let found = hints(&error);
            let [hint] = &found[..] else { panic!("{error}: no hint") };
            assert!(hint.ends_with(&format!("{tell}\n{line}")), "{hint}");
            let text = hint.split_once(":\n").unwrap().1;
            let understood = crate::registry::configuration::parse(text, Path::new("/h"));
            assert!(understood.is_ok_and(|(_, warnings)| warnings.is_empty()), "{text}");
        }
        assert!(hints(&cannot_connect("dns error")).is_empty() && hints(&login(Remedy::Nothing)).is_empty());
    }
}

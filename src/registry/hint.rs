//! What helps against an error of a registry: a word, or the lines that the user's configuration lacks.

use std::path::Path;

use super::error::{At, Remedy};
use super::{Host, RegistryError};
use crate::diagnostic::chain;
use crate::http::redirect;

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
            // A signed link of a store has gone stale: that passes.
            Self::Refused { at, elsewhere: Some(_), .. } if !is_writing(at) => return Vec::new(),
            Self::Refused { at, elsewhere: Some(host), status: 401 | 403, .. } => format!(
                "{host} gets no credential of {}: push by the name that the registry goes by, or have it go by the name that \
                 it is reached by (of Docker's registry, `relativeurls` or `http.host`)",
                at.host
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
                if is(redirect::GIVES_UP_ENCRYPTION) && is_writing(at) {
                    let hint = "a proxy before the registry ends TLS and does not tell it: with the header `X-Forwarded-Proto: \
                                https` it names places of its own by HTTPS";
                    return vec![hint.to_owned()];
                }
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

fn is_writing(at: &At) -> bool {
    ["begin an upload", "mount", "write"].iter().any(|verb| at.asked.starts_with(verb))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpError;

    fn at() -> At {
        let host = "registry.example".parse().unwrap();
        At { host, repository: "team/app".into(), asked: "write manifest 1.0".into() }
    }

    fn hints(error: &RegistryError) -> Vec<String> {
        error.hints(Path::new("/h/config.toml"))
    }

    #[test]
    fn who_can_help() {
        let refused =
            |status| RegistryError::Refused { at: at(), elsewhere: None, status, codes: Vec::new() };
        for status in [401, 403, 404, 413, 429] {
            assert_eq!(hints(&refused(status)).len(), 1, "{status}");
        }
        assert!(hints(&refused(500)).is_empty());
    }

    #[test]
    fn a_proxy_that_hides_tls_is_suspected_where_something_is_written() {
        let downgraded = |asked: &str| RegistryError::Http {
            at: At { asked: asked.into(), ..at() },
            source: HttpError::Redirect {
                url: "https://registry.example/".into(),
                to: "http://registry.example/".into(),
                rule: redirect::GIVES_UP_ENCRYPTION,
            },
        };
        assert!(hints(&downgraded("begin an upload to a repository"))[0].contains("X-Forwarded-Proto"));
        assert!(hints(&downgraded("read blob sha256:0")).is_empty());
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

//! Who is asking: answers to `401`, in RFC 7617's Basic scheme or with tokens of the registry's token server.
//!
//! Nothing is shown before it is asked for. The first challenge that can be answered decides the scheme, and it is kept: later
//! requests show their token at once. Tokens are asked for what an operation needs and never for what a challenge names, so
//! that a registry cannot have itself handed one that is good elsewhere; they are kept in memory by what they allow until
//! shortly before they expire. One failure to be let in with something fresh is the end: no loop.
//!
//! **Who gets the secret.** The registry itself, and a token server at the registry's own host and port; another only if the
//! settings name it ([`Settings::realms`](crate::registry::Settings)), and never over plain HTTP unless it is this machine, or
//! the registry itself where that is spoken to so. An anonymous token, which shows nothing, may come from any token server
//! over HTTPS. Redirects of token servers are not followed.

mod challenge;
mod scope;
mod token;

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::error::{At, printable};
use super::{Credential, Host, Keychain, KeychainError, RegistryError, Remedy, Settings};
use crate::http::{Authorization, Head, HttpError};
use challenge::Challenge;
pub(super) use scope::Scopes;
use token::Tokens;

/// Whoever answers for one registry.
pub(super) struct Authenticator {
    keychain: Arc<dyn Keychain>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scheme: Option<Scheme>,
    /// None: not asked for yet.
    credential: Option<Option<Credential>>,
    tokens: Tokens,
    failure: Option<Failure>,
}

/// The last question for a token that came to nothing, for those who waited while it was asked: they are told the same, and
/// do not ask one after the other.
struct Failure {
    scopes: Scopes,
    at: Instant,
    why: HttpError,
}

impl Failure {
    /// Whether it answers somebody who wants `scopes` and has waited since `began`. A server that says nothing says nothing
    /// to anybody; what it answers holds for the scopes that it was asked for.
    fn answers(&self, scopes: &Scopes, began: Instant) -> bool {
        self.at >= began && (self.scopes == *scopes || !matches!(self.why, HttpError::Status { .. }))
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// The registry as the rules see it.
pub(super) struct Door<'a> {
    pub host: &'a Host,
    pub settings: &'a Settings,
    /// It is spoken to over plain HTTP.
    pub plain: bool,
    /// The clients for its own and for other hosts.
    pub client: &'a (dyn Fn(&Url) -> Result<crate::http::Client, RegistryError> + Sync),
}

impl Authenticator {
    pub fn new(keychain: Arc<dyn Keychain>) -> Self {
        Self { keychain, state: Mutex::default() }
    }

    /// What is to be shown for a request, if that is known already.
    pub async fn authorization(
        &self,
        door: &Door<'_>,
        at: &At,
        scopes: &Scopes,
    ) -> Result<Option<Authorization>, RegistryError> {
        let began = Instant::now();
        // Held while a token is asked for: what waits wants the same one.
        let mut state = self.state.lock().await;
        let Some(scheme) = state.scheme.clone() else { return Ok(None) };
        let credential = self.credential(&mut state, door).await?;
        match (scheme, credential) {
            (_, Some(Credential::Bearer(token))) => {
                Ok(Some(Authorization::Bearer(token.expose().to_owned())))
            }
            (Scheme::Basic, Some(Credential::Basic { user, password })) => {
                Ok(Some(Authorization::Basic { user, password: password.expose().to_owned() }))
            }
            (Scheme::Basic, _) => Ok(None),
            (Scheme::Bearer { realm, service }, credential) => {
                if let Some(token) = state.tokens.find(scopes) {
                    return Ok(Some(Authorization::Bearer(token)));
                }
                if let Some(failure) = state.failure.as_ref().filter(|known| known.answers(scopes, began)) {
                    return Err(RegistryError::Http { at: at.clone(), source: failure.why.again() });
                }
                let server = token::Server { realm: &realm, service: service.as_deref() };
                let answer = server.token(door, at, scopes, credential.as_ref()).await;
                state.failure = match &answer {
                    Err(RegistryError::Http { source, .. }) if source.is_transient() => {
                        Some(Failure { scopes: scopes.clone(), at: Instant::now(), why: source.again() })
                    }
                    _ => None,
                };
                let (token, refreshed) = answer?;
                // A user and a password stay what they are.
                if let (Some(Credential::Identity(_)), Some(refreshed)) = (credential, refreshed) {
                    state.credential = Some(Some(Credential::Identity(refreshed)));
                }
                let text = token.text().to_owned();
                state.tokens.keep(scopes.clone(), token);
                Ok(Some(Authorization::Bearer(text)))
            }
        }
    }

    /// The registry answered 401 to what was shown. An error, unless another attempt can go better.
    pub async fn challenged(
        &self,
        door: &Door<'_>,
        at: &At,
        head: &Head,
        shown: Option<&Authorization>,
    ) -> Result<(), RegistryError> {
        let mut state = self.state.lock().await;
        let credential = self.credential(&mut state, door).await?;
        let challenges: Vec<_> = head.all("www-authenticate").flat_map(challenge::parse).collect();
        let scheme = choose(door, &challenges, credential.as_ref()).map_err(|no| no.error(door, at))?;
        let another_may_do = match shown {
            None => true,
            // Expired or withdrawn; somebody else may have replaced it by now. The caller tries once.
            Some(Authorization::Bearer(text)) => {
                state.tokens.forget(text);
                !matches!(credential, Some(Credential::Bearer(_)))
            }
            Some(Authorization::Basic { .. }) => false,
        };
        if !another_may_do && state.scheme.as_ref() == Some(&scheme) {
            return Err(No::Rejected.error(door, at));
        }
        state.scheme = Some(scheme);
        Ok(())
    }

    /// The keychain is asked once, on a thread where it may wait for a program.
    async fn credential(
        &self,
        state: &mut State,
        door: &Door<'_>,
    ) -> Result<Option<Credential>, RegistryError> {
        if let Some(known) = &state.credential {
            return Ok(known.clone());
        }
        let (keychain, host) = (Arc::clone(&self.keychain), door.host.clone());
        let asked = tokio::task::spawn_blocking(move || keychain.credential(&host)).await;
        let failed = |problem: String| KeychainError {
            host: door.host.clone(),
            source_name: "the keychain".to_owned(),
            problem,
        };
        let known = asked.map_err(|error| failed(error.to_string()))??;
        state.credential = Some(known.clone());
        Ok(known)
    }
}

/// Second refusal in a row.
pub(super) fn rejected(door: &Door<'_>, at: &At) -> RegistryError {
    No::Rejected.error(door, at)
}

/// Why nobody is let in.
#[derive(Debug, PartialEq, Eq)]
enum No {
    /// It asks for a user and a password.
    Anonymous,
    /// It takes user and password only, and an identity token is known.
    NotABasicCredential,
    /// It asks for what is not spoken here.
    Unknown(String),
    /// Something was shown.
    Rejected,
    /// Its token server is none that may see the credential.
    Realm { realm: Box<str>, host: Option<Host>, rule: &'static str },
}

impl No {
    fn error(self, door: &Door<'_>, at: &At) -> RegistryError {
        let host = door.host;
        let log_in = || Remedy::Do(format!("`mlbuild login {host}` lets you in"));
        let (problem, remedy) = match self {
            Self::Anonymous => {
                ("it wants to know who is asking, and no credential is known for it".to_owned(), log_in())
            }
            Self::NotABasicCredential => (
                "it wants a user and a password, and only an identity token is known for it".to_owned(),
                log_in(),
            ),
            Self::Unknown(schemes) => (
                format!("it answered 401 and offers no way to log in that is known here{schemes}"),
                Remedy::Nothing,
            ),
            Self::Rejected => (
                "it does not let in whoever is asking (401)".to_owned(),
                Remedy::Do(match at.repository.as_str() {
                    "" => "is the user name right, and the password or token still good?".to_owned(),
                    _ => format!("`mlbuild login {host}` as somebody who may do this"),
                }),
            ),
            Self::Realm { realm, host, rule } => (
                format!("its token server {realm} is not asked: {rule}"),
                host.map_or(Remedy::Nothing, Remedy::Realm),
            ),
        };
        RegistryError::Login { at: at.clone(), problem, remedy }
    }
}

/// The first challenge that can be answered, tokens before passwords.
fn choose(door: &Door<'_>, challenges: &[Challenge], credential: Option<&Credential>) -> Result<Scheme, No> {
    let mut no = None;
    for challenge in challenges.iter().filter(|challenge| challenge.scheme == "bearer") {
        if let Some(Credential::Bearer(_)) = credential {
            // Made for the registry: no token server is asked.
            let realm = door.host.url(door.plain);
            return Ok(Scheme::Bearer { realm, service: None });
        }
        match bearer(door, challenge, credential.is_some()) {
            Ok(scheme) => return Ok(scheme),
            Err(why) => no = no.or(Some(why)),
        }
    }
    if challenges.iter().any(|challenge| challenge.scheme == "basic") {
        return match credential {
            Some(Credential::Basic { .. }) => Ok(Scheme::Basic),
            Some(_) => Err(No::NotABasicCredential),
            None => Err(No::Anonymous),
        };
    }
    let schemes: Vec<_> = challenges.iter().take(4).map(|challenge| printable(&challenge.scheme)).collect();
    let listed = if schemes.is_empty() { String::new() } else { format!(" ({})", schemes.join(", ")) };
    Err(no.unwrap_or(No::Unknown(listed)))
}

/// Whether the token server of a challenge may be asked; `secret`: with something that must not get into wrong hands.
fn bearer(door: &Door<'_>, challenge: &Challenge, secret: bool) -> Result<Scheme, No> {
    let text = challenge.parameter("realm").unwrap_or_default();
    let no =
        |realm: &str, host, rule| No::Realm { realm: format!("`{}`", printable(realm)).into(), host, rule };
    let realm = Url::parse(text).map_err(|_| no(text, None, "that is no URL"))?;
    let shown = crate::http::redact(&realm);
    let host = Host::of(&realm).filter(|_| matches!(realm.scheme(), "http" | "https"));
    let Some(host) = host else { return Err(no(&shown, None, "that is no web server")) };
    if !realm.username().is_empty() || realm.password().is_some() {
        return Err(no(&shown, None, "it has a user in its URL"));
    }
    let own = host == *door.host;
    let named = door.settings.realms.contains(&host) || door.host.has_token_server(&host);
    let rule = match realm.scheme() {
        "https" if own || named || !secret => None,
        "http" if own && door.plain => None,
        "http" if named && host.is_loopback() => None,
        "http" => Some((None, "it is not encrypted")),
        _ => Some((Some(host), "it is not the registry's own host, and gets no credential")),
    };
    match rule {
        Some((host, rule)) => Err(no(&shown, host, rule)),
        None => Ok(Scheme::Bearer { realm, service: challenge.parameter("service").map(str::to_owned) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Secret;

    /// What becomes of a challenge: `basic`, the realm, or why not.
    fn chosen(
        host: &str,
        plain: bool,
        realms: &[&str],
        header: &str,
        credential: Option<&Credential>,
    ) -> String {
        let host: Host = host.parse().unwrap();
        let realms = realms.iter().map(|realm| realm.parse().unwrap()).collect();
        let settings = Settings { realms, ..Settings::default() };
        let client = |_: &Url| unreachable!("nothing is asked");
        let door = Door { host: &host, settings: &settings, plain, client: &client };
        match choose(&door, &challenge::parse(header), credential) {
            Ok(Scheme::Basic) => "basic".to_owned(),
            Ok(Scheme::Bearer { realm, .. }) => realm.to_string(),
            Err(No::Realm { rule, .. }) => rule.to_owned(),
            Err(no) => format!("{no:?}"),
        }
    }

    fn basic() -> Credential {
        Credential::Basic { user: "me".into(), password: Secret::new("secret") }
    }

    #[test]
    fn whose_token_server_is_asked() {
        const FOREIGN: &str = "it is not the registry's own host, and gets no credential";
        const PLAIN: &str = "it is not encrypted";
        for (host, plain, realms, realm, expected) in [
            ("r.example", false, &[][..], "https://r.example/token", "https://r.example/token"),
            ("r.example", false, &[], "https://r.example:8443/token", FOREIGN),
            ("r.example", false, &[], "https://auth.r.example/token", FOREIGN),
            (
                "r.example",
                false,
                &["auth.r.example"],
                "https://auth.r.example/token",
                "https://auth.r.example/token",
            ),
            ("r.example", false, &["auth.r.example"], "https://auth.r.example:444/token", FOREIGN),
            ("r.example", false, &["auth.r.example:80"], "http://auth.r.example/token", PLAIN),
            ("r.example", false, &[], "http://r.example/token", PLAIN),
            ("r.example", false, &[], "http://r.example:443/token", PLAIN),
            ("r.example:80", true, &[], "http://r.example/token", "http://r.example/token"),
            ("r.example:80", true, &[], "https://r.example/token", FOREIGN),
            ("127.0.0.1:5000", true, &[], "http://127.0.0.1:5001/token", PLAIN),
            (
                "127.0.0.1:5000",
                false,
                &["127.0.0.1:5001"],
                "http://127.0.0.1:5001/t",
                "http://127.0.0.1:5001/t",
            ),
            ("r.example", false, &[], "https://evil@r.example/token", "it has a user in its URL"),
            ("r.example", false, &[], "https://r.example@evil.example/token", "it has a user in its URL"),
            ("r.example", false, &[], "file:///etc/passwd", "that is no web server"),
            ("r.example", false, &[], "/token", "that is no URL"),
            ("r.example", false, &[], "", "that is no URL"),
        ] {
            let header = format!("Bearer realm=\"{realm}\"");
            assert_eq!(chosen(host, plain, realms, &header, Some(&basic())), expected, "{host} {realm}");
        }
        // With nothing to show, HTTPS is enough.
        let foreign = "Bearer realm=\"https://auth.example/t\"";
        assert_eq!(chosen("r.example", false, &[], foreign, None), "https://auth.example/t");
        assert_eq!(chosen("r.example", false, &[], "Bearer realm=\"http://auth.example/t\"", None), PLAIN);
    }

    #[test]
    fn which_challenge_is_answered() {
        let both = "Basic realm=x, Bearer realm=\"https://r.example/t\"";
        let evil = "Basic realm=x, Bearer realm=\"https://evil.example/t\"";
        let identity = Credential::Identity(Secret::new("secret"));
        let token = Credential::Bearer(Secret::new("secret"));
        for (header, credential, expected) in [
            (both, Some(&basic()), "https://r.example/t"),
            (evil, Some(&basic()), "basic"),
            ("Basic", Some(&basic()), "basic"),
            ("Basic", Some(&identity), "NotABasicCredential"),
            ("Basic", None, "Anonymous"),
            (evil, Some(&token), "https://r.example/"),
            ("Negotiate, Digest x=y", Some(&basic()), "Unknown(\" (negotiate, digest)\")"),
            ("", Some(&basic()), "Unknown(\"\")"),
        ] {
            assert_eq!(chosen("r.example", false, &[], header, credential), expected, "{header}");
        }
    }
}

//! Tokens: how they are asked for, and how long they are kept.
//!
//! `GET REALM?service=…&scope=…&scope=…` for a user or for nobody (the distribution project's token specification), `POST REALM`
//! with a form for a refresh token (its OAuth 2 variant).

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::Serializer;

use super::{Door, Scopes};
use crate::http::{Authorization, Client, HttpError, Method, Payload, Request, redact};
use crate::registry::error::{At, printable};
use crate::registry::{Credential, RegistryError, Remedy, Secret};

/// How long a token holds that does not say (the token specification's default).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// Longer is not believed.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The longest answer of a token server, in bytes.
const LONGEST_ANSWER: u64 = 1 << 20;
/// The longest token, in bytes: servers refuse longer headers.
const LONGEST_TOKEN: usize = 64 << 10;
/// Tokens kept.
const MOST: usize = 64;

/// A token, and until when it is used.
pub(super) struct Kept {
    text: String,
    until: Instant,
}

impl Kept {
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept(…)")
    }
}

/// The tokens of one registry, the newest last.
#[derive(Default, Debug)]
pub(super) struct Tokens(Vec<(Scopes, Kept)>);

impl Tokens {
    /// One that is good for `wanted`.
    pub fn find(&self, wanted: &Scopes) -> Option<String> {
        let now = Instant::now();
        let good = |(scopes, token): &&(Scopes, Kept)| token.until > now && scopes.cover(wanted);
        self.0.iter().rev().find(good).map(|(_, token)| token.text.clone())
    }

    pub fn keep(&mut self, scopes: Scopes, token: Kept) {
        let now = Instant::now();
        self.0.retain(|(known, token)| *known != scopes && token.until > now);
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push((scopes, token));
    }

    /// The registry does not take it any more.
    pub fn forget(&mut self, text: &str) {
        self.0.retain(|(_, token)| token.text != text);
    }
}

/// Where tokens are had.
pub(super) struct Server<'a> {
    pub realm: &'a Url,
    pub service: Option<&'a str>,
}

impl Server<'_> {
    /// A new token, and the refresh token that replaces the credential, if there is one.
    ///
    /// One attempt: what the token is for is attempted again as a whole, so that no loop is in another. It ends within
    /// [`ClientOptions::connect_timeout`](crate::http::ClientOptions::connect_timeout) and
    /// [`ClientOptions::read_timeout`](crate::http::ClientOptions::read_timeout).
    pub async fn token(
        &self,
        door: &Door<'_>,
        at: &At,
        scopes: &Scopes,
        credential: Option<&Credential>,
    ) -> Result<(Kept, Option<Secret>), RegistryError> {
        let client = (door.client)(self.realm)?;
        let after = client.options().connect_timeout + client.options().read_timeout;
        let asked = Instant::now();
        let answer = match tokio::time::timeout(after, self.ask(&client, scopes, credential)).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Stalled { url: redact(self.realm), after }),
        };
        match answer {
            Ok((200, bytes)) => self.read(at, &bytes, asked),
            Ok((status, bytes)) => Err(self.refused(door, at, status, &bytes, credential.is_some())),
            Err(source) => Err(RegistryError::Http { at: at.clone(), source }),
        }
    }

    /// A status, and what was said with it.
    async fn ask(
        &self,
        client: &Client,
        scopes: &Scopes,
        credential: Option<&Credential>,
    ) -> Result<(u16, Vec<u8>), HttpError> {
        let (url, authorization, payload) = self.request(scopes, credential);
        let method = if matches!(payload, Payload::None) { Method::Get } else { Method::Post };
        let request = Request {
            authorization: authorization.as_ref(),
            payload,
            headers: &[("accept", "application/json")],
            ..Request::new(method, &url)
        };
        let answer = client.exchange(request, &|_| {}).await?;
        let (status, trouble) = (answer.head.status, answer.head.as_error());
        match status {
            200 => Ok((status, answer.bytes(LONGEST_ANSWER).await?)),
            _ if trouble.is_transient() => Err(trouble),
            _ => Ok((status, answer.beginning(LONGEST_ANSWER).await.unwrap_or_default())),
        }
    }

    fn request(
        &self,
        scopes: &Scopes,
        credential: Option<&Credential>,
    ) -> (Url, Option<Authorization>, Payload) {
        let mut url = self.realm.clone();
        if let Some(Credential::Identity(refresh)) = credential {
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token");
            form.append_pair("service", self.service.unwrap_or_default());
            form.append_pair("client_id", "mlbuild");
            form.append_pair("scope", &scopes.texts().collect::<Vec<_>>().join(" "));
            form.append_pair("refresh_token", refresh.expose());
            let bytes = form.finish().into_bytes();
            let media_type = "application/x-www-form-urlencoded".to_owned();
            return (url, None, Payload::Bytes { media_type, bytes });
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in scopes.texts() {
                query.append_pair("scope", &scope);
            }
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        let authorization = match credential {
            Some(Credential::Basic { user, password }) => {
                Some(Authorization::Basic { user: user.clone(), password: password.expose().to_owned() })
            }
            _ => None,
        };
        (url, authorization, Payload::None)
    }

    fn read(&self, at: &At, bytes: &[u8], asked: Instant) -> Result<(Kept, Option<Secret>), RegistryError> {
        let shown = redact(self.realm);
        let wrong = |what: &str| RegistryError::protocol(at, format!("its token server {shown} {what}"));
        let answer: Value = serde_json::from_slice(bytes).map_err(|_| wrong("did not send JSON"))?;
        let text = |key| answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let token = text("token").or(text("access_token")).ok_or_else(|| wrong("sent no token"))?;
        if token.len() > LONGEST_TOKEN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong("sent a token that no header can carry"));
        }
        let seconds = answer.get("expires_in").and_then(Value::as_f64).filter(|seconds| *seconds >= 1.0);
        let life = seconds.map_or(DEFAULT_LIFE, |seconds| {
            Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_LIFE).min(LONGEST_LIFE)
        });
        // Counted from the question; the last of it might pass on the way.
        let until = asked + life - (life / 4).min(Duration::from_secs(10));
        Ok((Kept { text: token.to_owned(), until }, text("refresh_token").map(Secret::new)))
    }

    fn refused(&self, door: &Door<'_>, at: &At, status: u16, body: &[u8], known: bool) -> RegistryError {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let first =
            answer.pointer("/errors/0/message").or(answer.get("error_description")).or(answer.get("details"));
        let said =
            first.and_then(Value::as_str).map(|said| format!(": {}", printable(said))).unwrap_or_default();
        let shown = redact(self.realm);
        let problem =
            format!("its token server {shown} answered {status}{}{said}", crate::http::reason(status));
        let remedy = match (known, status) {
            (true, 400..=403) => Remedy::Do(format!(
                "`mlbuild login {}` again: it does not take the credential that is known",
                door.host
            )),
            (false, 400..=403) => Remedy::Do(format!("`mlbuild login {}` lets you in", door.host)),
            _ => Remedy::Nothing,
        };
        RegistryError::Login { at: at.clone(), problem, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(realm: &Url) -> Server<'_> {
        Server { realm, service: Some("a b") }
    }

    #[test]
    fn requests_name_service_and_scopes() {
        let realm = Url::parse("https://r.example/token?kept=1%202").unwrap();
        let scopes = Scopes::push("team/app").and_pull("base");
        let user = Credential::Basic { user: "me".into(), password: Secret::new("pw") };
        let (url, authorization, _) = server(&realm).request(&scopes, Some(&user));
        let query = "kept=1%202&service=a+b&scope=repository%3Abase%3Apull&scope=repository%3Ateam%2Fapp%3Apull%2Cpush";
        assert_eq!(url.query(), Some(query));
        assert_eq!(authorization, Some(Authorization::Basic { user: "me".into(), password: "pw".into() }));
        let identity = Credential::Identity(Secret::new("r&t"));
        let (url, authorization, payload) = server(&realm).request(&scopes, Some(&identity));
        assert_eq!((url, authorization), (realm.clone(), None));
        let Payload::Bytes { bytes, .. } = payload else { panic!("no form") };
        let form = "grant_type=refresh_token&service=a+b&client_id=mlbuild&scope=repository%3Abase%3Apull+repository%3Ateam%2Fapp%3Apull%2Cpush&refresh_token=r%26t";
        assert_eq!(String::from_utf8(bytes).unwrap(), form);
        let bare = Url::parse("https://r.example/token").unwrap();
        let (url, ..) = Server { realm: &bare, service: None }.request(&Scopes::none(), None);
        assert_eq!(url, bare);
    }

    #[test]
    fn answers_are_judged() {
        let realm = Url::parse("https://r.example/token").unwrap();
        let at = At { host: "r.example".parse().unwrap(), repository: "a".into(), asked: "read".into() };
        let asked = Instant::now();
        let read = |text: &str| server(&realm).read(&at, text.as_bytes(), asked);
        for (answer, token, life) in [
            (r#"{"token":"t"}"#, "t", 50),
            (r#"{"access_token":"a","expires_in":300}"#, "a", 290),
            (r#"{"token":"","access_token":"a","expires_in":8}"#, "a", 6),
            (r#"{"token":"t","expires_in":-5}"#, "t", 50),
            (r#"{"token":"t","expires_in":1e300}"#, "t", 86390),
            (r#"{"token":"t","expires_in":"soon"}"#, "t", 50),
        ] {
            let (kept, refresh) = read(answer).unwrap();
            assert_eq!(
                (kept.text(), (kept.until - asked).as_secs(), refresh),
                (token, life, None),
                "{answer}"
            );
        }
        assert_eq!(read(r#"{"token":"t","refresh_token":"r"}"#).unwrap().1, Some(Secret::new("r")));
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"token":7}"#,
            r#"{"token":"a b"}"#,
            r#"{"token":"a\r\nX: y"}"#,
            r#"{"token":"é"}"#,
        ] {
            assert!(matches!(read(wrong), Err(RegistryError::Protocol { .. })), "{wrong}");
        }
    }

    #[test]
    fn tokens_are_found_by_what_they_allow() {
        let now = Instant::now();
        let kept =
            |text: &str, seconds| Kept { text: text.to_owned(), until: now + Duration::from_secs(seconds) };
        let mut tokens = Tokens::default();
        tokens.keep(Scopes::push("a"), kept("push", 60));
        tokens.keep(Scopes::pull("b"), kept("stale", 0));
        assert_eq!(tokens.find(&Scopes::pull("a")).as_deref(), Some("push"));
        assert_eq!(tokens.find(&Scopes::pull("b")), None);
        tokens.keep(Scopes::push("a"), kept("newer", 60));
        assert_eq!(tokens.find(&Scopes::push("a")).as_deref(), Some("newer"));
        tokens.forget("newer");
        assert_eq!(tokens.find(&Scopes::push("a")), None);
        for i in 0..200 {
            tokens.keep(Scopes::pull(&i.to_string()), kept("t", 60));
        }
        assert_eq!(tokens.0.len(), MOST);
    }
}

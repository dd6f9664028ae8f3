//! One registry: how it is reached, and how it is asked.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OnceCell;
use url::Url;

use super::auth::{self, Authenticator, Door, Scopes};
use super::error::At;
use super::wait::Waits;
use super::{Host, Keychain, RegistryError, Repository, Settings};
use crate::http::redirect::Chain;
use crate::http::retry::Attempts;
use crate::http::{Answer, Client, ClientOptions, Head, HttpError, Method, Payload, Request, Tls};

/// Bytes of a refusal that are read.
const REFUSAL: u64 = 64 << 10;
/// The longest file of certificates, in bytes.
const LONGEST_PEM: u64 = 4 << 20;

/// One registry. Cheap to clone; clones share connections and tokens.
///
/// **Scheme.** HTTPS. Plain HTTP for a registry whose settings call it insecure, and for one on this machine that does not
/// speak HTTPS: whether it understands plain HTTP is tried once, without a credential.
///
/// **Proxies** are those of the environment, but none for a registry on this machine.
///
/// **Redirects** are followed, of what is written those that have the same request made elsewhere (307, 308): what is sent is
/// sent again from its beginning. None leads down to plain HTTP, and other hosts get neither the credential nor the client
/// certificate.
///
/// **Deadlines.** An operation with small bodies ends after [`ClientOptions::retries`] + 1 attempts and after waits of
/// [`retry::PATIENCE`](crate::http::retry::PATIENCE) in sum. Each request of an attempt makes headway or ends within
/// [`ClientOptions::connect_timeout`] + [`ClientOptions::read_timeout`]: there are 10 redirects at most and one question for a
/// token, and once more as many after a 401. A token server that fails is asked once an attempt, and by one for all that
/// wait for it. What blobs and uploads add is said there.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    host: Host,
    settings: Settings,
    options: ClientOptions,
    /// For the registry itself: over HTTPS, and over plain HTTP.
    home: [OnceLock<Client>; 2],
    /// For other hosts: by proxies, and without.
    away: [OnceLock<Client>; 2],
    /// Authorities that are trusted, whoever shows their certificates.
    authorities: Vec<Vec<u8>>,
    /// What the registry is shown.
    identity: Option<Vec<u8>>,
    base: OnceCell<Url>,
    authenticator: Authenticator,
    waits: Waits,
    /// Held while a list is read, changed and written.
    lists: tokio::sync::Mutex<()>,
    /// Held for each upload session that is being deleted.
    ending: Arc<()>,
}

/// One request to the registry, made as often as it takes.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub at: &'a At,
    pub method: Method,
    pub url: &'a Url,
    pub scopes: &'a Scopes,
    pub headers: &'a [(&'static str, &'a str)],
    /// Media type and bytes.
    pub body: Option<(&'a str, &'a [u8])>,
}

/// A whole answer with a small body.
#[derive(Debug)]
pub(super) struct Reply {
    pub head: Head,
    pub bytes: Vec<u8>,
}

impl Registry {
    /// Reads the certificates of the settings; nothing is requested, nor is the keychain asked, before it must be.
    pub fn new(
        host: Host,
        settings: Settings,
        keychain: Arc<dyn Keychain>,
        options: &ClientOptions,
    ) -> Result<Self, RegistryError> {
        let pem = |file: &Path| {
            read_pem(file).map_err(|source| RegistryError::Certificate {
                host: host.clone(),
                file: file.to_owned(),
                source,
            })
        };
        let authorities = settings.ca.iter().map(|file| pem(file)).collect::<Result<Vec<_>, _>>()?;
        let identity = match &settings.client {
            Some(client) => Some([pem(&client.certificate)?, b"\n".to_vec(), pem(&client.key)?].concat()),
            None => None,
        };
        Ok(Self(Arc::new(Inner {
            settings,
            options: options.clone(),
            home: Default::default(),
            away: Default::default(),
            authorities,
            identity,
            base: OnceCell::new(),
            authenticator: Authenticator::new(keychain),
            waits: Waits::default(),
            lists: tokio::sync::Mutex::default(),
            ending: Arc::default(),
            host,
        })))
    }

    pub fn host(&self) -> &Host {
        &self.0.host
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// `notice` hears of waits that a person would wonder about: whom is waited for, and why.
    pub fn on_wait(&self, notice: impl Fn(&str, &str) + Send + Sync + 'static) {
        self.0.waits.tell(Box::new(notice));
    }

    /// Waits before another attempt, or gives the error back if there is to be none.
    pub(super) async fn pause(&self, attempts: &mut Attempts, error: HttpError) -> Result<(), HttpError> {
        let Some(wait) = attempts.wait(&error, self.options()) else { return Err(error) };
        self.0.waits.rest(wait, &error).await;
        Ok(())
    }

    /// To be held while an upload session is deleted.
    pub(super) fn ending(&self) -> Arc<()> {
        Arc::clone(&self.0.ending)
    }

    /// Waits until all upload sessions that were dropped have been deleted.
    pub async fn end_sessions(&self) {
        loop {
            // The first time for tasks that have just been aborted to drop what they hold.
            tokio::time::sleep(Duration::from_millis(5)).await;
            if Arc::strong_count(&self.0.ending) == 1 {
                return;
            }
        }
    }

    /// A repository of this registry; nothing is requested.
    pub fn repository(&self, name: &str) -> Result<Repository, RegistryError> {
        Repository::new(self.clone(), name)
    }

    /// Whether there is a registry, and whether it lets in whoever is asking.
    pub async fn check(&self) -> Result<(), RegistryError> {
        let at = self.at("", "log in to");
        let url = self.url(&at, "").await?;
        let reply = self.send(Call::new(&at, Method::Get, &url, &Scopes::none()), REFUSAL).await?;
        match reply.head.status {
            200 => Ok(()),
            _ => Err(reply.refused(&at)),
        }
    }

    pub(super) fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    pub(super) fn lists(&self) -> &tokio::sync::Mutex<()> {
        &self.0.lists
    }

    pub(super) fn at(&self, repository: &str, asked: impl Into<String>) -> At {
        At { host: self.0.host.clone(), repository: repository.to_owned(), asked: asked.into() }
    }

    /// The URL of `/v2/` and `path`.
    pub(super) async fn url(&self, at: &At, path: &str) -> Result<Url, RegistryError> {
        let base = self.0.base.get_or_try_init(|| self.base(at)).await?;
        base.join(&format!("v2/{path}"))
            .map_err(|error| RegistryError::protocol(at, format!("no URL has the path {path}: {error}")))
    }

    async fn base(&self, at: &At) -> Result<Url, RegistryError> {
        let host = &self.0.host;
        if self.0.settings.insecure {
            return Ok(host.url(true));
        }
        if !host.is_loopback() {
            return Ok(host.url(false));
        }
        let mut attempts = Attempts::default();
        loop {
            // A server that wants HTTPS answers plain HTTP with 400.
            if matches!(self.speaks(host.url(true)).await, Ok(status) if status != 400) {
                return Ok(host.url(true));
            }
            let failed = |source| RegistryError::Http { at: at.clone(), source };
            match self.speaks(host.url(false)).await {
                Ok(_) => return Ok(host.url(false)),
                Err(RegistryError::Http { source, .. }) => {
                    self.pause(&mut attempts, source).await.map_err(failed)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn speaks(&self, base: Url) -> Result<u16, RegistryError> {
        let at = self.at("", "reach");
        let mut url = base;
        url.set_path("/v2/");
        let answer = self.home(&url)?.exchange(Request::new(Method::Get, &url), &|_| {}).await;
        Ok(answer.map_err(|source| RegistryError::Http { at, source })?.head.status)
    }

    /// The client for a URL of the registry itself.
    fn home(&self, url: &Url) -> Result<Client, RegistryError> {
        let inner = &*self.0;
        let plain = url.scheme() == "http";
        let (authorities, identity) = match plain {
            true => (Vec::new(), None),
            false => (inner.authorities.clone(), inner.identity.clone()),
        };
        let tls = Tls { authorities, identity, direct: inner.host.is_loopback(), plain };
        self.made(&inner.home[usize::from(plain)], &tls)
    }

    fn made(&self, place: &OnceLock<Client>, tls: &Tls) -> Result<Client, RegistryError> {
        if let Some(client) = place.get() {
            return Ok(client.clone());
        }
        let client = Client::with_tls(&self.0.options, tls)
            .map_err(|source| RegistryError::Setup { host: self.0.host.clone(), source })?;
        Ok(place.get_or_init(|| client).clone())
    }

    /// The client for a URL: the registry's own, or one that shows nothing.
    fn client(&self, url: &Url) -> Result<Client, RegistryError> {
        let inner = &*self.0;
        let host = Host::of(url);
        if host.as_ref() == Some(&inner.host) {
            return self.home(url);
        }
        let direct = host.is_some_and(|host| host.is_loopback());
        let tls = Tls { authorities: inner.authorities.clone(), identity: None, direct, plain: false };
        self.made(&inner.away[usize::from(direct)], &tls)
    }

    /// The registry as the rules of logging in see it.
    fn door<'a>(&'a self, client: &'a (dyn Fn(&Url) -> Result<Client, RegistryError> + Sync)) -> Door<'a> {
        let plain = self.0.base.get().is_some_and(|base| base.scheme() == "http");
        Door { host: &self.0.host, settings: &self.0.settings, plain, client }
    }

    /// Whether a URL is the registry's own, as it is spoken to.
    pub(super) fn is_home(&self, url: &Url) -> bool {
        self.0.base.get().is_some_and(|base| base.origin() == url.origin())
    }

    /// An answer that is worth having, with its body of at most `limit` bytes: passing troubles are waited out.
    pub(super) async fn send(&self, call: Call<'_>, limit: u64) -> Result<Reply, RegistryError> {
        let mut attempts = Attempts::default();
        loop {
            let error = match self.send_once(call, limit).await {
                Ok(reply) => {
                    let error = reply.head.as_error();
                    if !error.is_transient() || self.pause(&mut attempts, error).await.is_err() {
                        return Ok(reply);
                    }
                    continue;
                }
                Err(RegistryError::Http { source, .. }) => source,
                Err(error) => return Err(error),
            };
            let failed = |source| RegistryError::Http { at: call.at.clone(), source };
            self.pause(&mut attempts, error).await.map_err(failed)?;
        }
    }

    /// One attempt of [`Registry::send`].
    pub(super) async fn send_once(&self, call: Call<'_>, limit: u64) -> Result<Reply, RegistryError> {
        let payload = || match call.body {
            Some((media_type, bytes)) => {
                Payload::Bytes { media_type: media_type.to_owned(), bytes: bytes.to_owned() }
            }
            None => Payload::None,
        };
        let answer = self.ask(call, &|_| {}, &payload).await?;
        let head = answer.head.clone();
        let bytes = match head.status {
            _ if call.method == Method::Head => Vec::new(),
            // What it says is for people; a cut does not matter.
            400.. => answer.beginning(REFUSAL).await.unwrap_or_default(),
            _ => {
                let failed = |source| RegistryError::Http { at: call.at.clone(), source };
                answer.bytes(limit).await.map_err(failed)?
            }
        };
        Ok(Reply { head, bytes })
    }

    /// One attempt: a 401 is answered once, redirects are followed. The caller's business is the status.
    pub(super) async fn ask(
        &self,
        call: Call<'_>,
        sent: &(dyn Fn(u64) + Sync),
        payload: &(dyn Fn() -> Payload + Sync),
    ) -> Result<Answer, RegistryError> {
        let failed = |source| RegistryError::Http { at: call.at.clone(), source };
        let client = |url: &Url| self.client(url);
        let door = self.door(&client);
        let home = self.is_home(call.url);
        let reading = matches!(call.method, Method::Get | Method::Head);
        let mut challenged = false;
        loop {
            let shown = match home {
                true => self.0.authenticator.authorization(&door, call.at, call.scopes).await?,
                false => None,
            };
            let mut chain = Chain::new(call.url);
            let answer = loop {
                let request = Request {
                    authorization: shown.as_ref().filter(|_| chain.at_home()),
                    headers: call.headers,
                    payload: payload(),
                    ..Request::new(call.method, chain.url())
                };
                let answer = self.client(chain.url())?.exchange(request, sent).await.map_err(failed)?;
                let leads_on = match answer.head.status {
                    301..=303 => reading,
                    307 | 308 => true,
                    _ => false,
                };
                if leads_on {
                    chain.follow(answer.head.location()).map_err(failed)?;
                } else {
                    break answer;
                }
            };
            if answer.head.status != 401 || !home || !chain.at_home() {
                return Ok(answer);
            }
            if challenged {
                return Err(auth::rejected(&door, call.at));
            }
            challenged = true;
            self.0.authenticator.challenged(&door, call.at, &answer.head, shown.as_ref()).await?;
        }
    }
}

impl<'a> Call<'a> {
    pub fn new(at: &'a At, method: Method, url: &'a Url, scopes: &'a Scopes) -> Self {
        Self { at, method, url, scopes, headers: &[], body: None }
    }
}

impl Reply {
    pub fn refused(&self, at: &At) -> RegistryError {
        RegistryError::refused(at, &self.head, &self.bytes)
    }
}

fn read_pem(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(LONGEST_PEM + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_PEM {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    Ok(bytes)
}

//! The one HTTP client: every byte that mlbuild reads from a network (uv's resolver apart) comes through here.
//!
//! It exists so that the rules of a careful client are written once:
//! - **Bounded.** A body is read up to a limit that the caller names; a server that sends more is an error.
//! - **Patient, not stubborn.** Resets, stalls and the answers 408, 429 and 5xx are tried again with full-jitter
//!   back-off, or when the server says so (`Retry-After`); see [`retry`].
//! - **Credentials stay at home.** They go to the scheme, host and port they were given for, never along a redirect to
//!   another; redirects may not lower https to http nor leave HTTP; see [`redirect`]. Texts of errors carry neither
//!   credentials nor the query of a URL, where signed links keep theirs.
//! - **Bytes as stored.** `Accept-Encoding: identity`; a `Content-Encoding` that a server adds all the same is not
//!   undone (Debian mirrors label `.gz` files so), because what is hashed is the file.
//! - **HTTP/1.1.** A download has its own connection: at eight in parallel that is faster than streams that share one
//!   flow-control window, and a cut ends one download instead of all.
//!
//! Downloads are [`Client::get`], [`Client::get_promised`] (see `whole`) and [`Client::send`]; requests of other kinds, such as registries want, are in [`request`].
//!
//! Trust is the system's, and that of [`Tls`]: certificates as the platform keeps them, `SSL_CERT_FILE` and `SSL_CERT_DIR` included; proxies
//! as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say. `file:` URLs are read when a person gives them as a mirror.
//! No type of the HTTP library leaves this module.

mod body;
mod error;
pub mod redirect;
pub mod request;
pub mod retry;
#[cfg(test)]
pub mod testserver;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header;
use url::Url;

pub use crate::resolve::Credential;
pub use body::Body;
pub(crate) use error::reason;
pub use error::{HttpError, redact};
pub use request::{Answer, Authorization, Head, Method, Payload, Request};

/// How a client behaves. The default is what the tool uses.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Refuse every request that would leave the machine's own files.
    pub offline: bool,
    pub connect_timeout: Duration,
    /// The longest time without a byte, both before the answer and within it, and with less than 1 KiB a second.
    pub read_timeout: Duration,
    /// How often a failed request is made again; a connection that cannot be made at all only twice.
    pub retries: u32,
    /// The upper bound of the first back-off; it doubles with each failure.
    pub backoff: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            offline: false,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            retries: 5,
            backoff: Duration::from_millis(500),
        }
    }
}

/// Whom a client trusts besides the system's certificates, what it shows of itself in TLS, and which way it goes. PEM.
#[derive(Clone, Default)]
pub struct Tls {
    /// Each may hold several certificates.
    pub authorities: Vec<Vec<u8>>,
    /// A certificate with its chain, and its key.
    pub identity: Option<Vec<u8>>,
    /// Ask no proxy, whatever the environment says.
    pub direct: bool,
    /// Only `http://` is asked for: the system's certificates, which take their time, are not read.
    pub plain: bool,
}

/// Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    options: Arc<ClientOptions>,
}

impl Client {
    pub fn new(options: &ClientOptions) -> Result<Self, HttpError> {
        Self::with_tls(options, &Tls::default())
    }

    /// A client for servers whose certificates are not the system's.
    pub fn with_tls(options: &ClientOptions, tls: &Tls) -> Result<Self, HttpError> {
        let setup = |source: reqwest::Error| HttpError::Setup { source: Box::new(source) };
        let mut headers = header::HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static("identity"));
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("mlbuild/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            // Other parts of the program bring the library's decoders with them.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            // The library's read timeout would count while a body is sent: see `within` and `Body::chunk`.
            .connect_timeout(options.connect_timeout);
        for bundle in &tls.authorities {
            builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(bundle).map_err(setup)?);
        }
        if tls.plain {
            builder = builder.tls_certs_only([]);
        }
        if let Some(identity) = &tls.identity {
            builder = builder.identity(reqwest::Identity::from_pem(identity).map_err(setup)?);
        }
        if tls.direct {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(setup)?;
        Ok(Self { http, options: Arc::new(options.clone()) })
    }

    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// One attempt for the bytes from `offset` on: redirects are followed, nothing is tried again. A server may ignore
    /// the offset: [`Body::offset`] says where the body begins.
    ///
    /// With `validator` (a strong ETag) the server is asked for the rest only if its file is still that one.
    pub async fn send(
        &self,
        url: &Url,
        auth: Option<&Credential>,
        offset: u64,
        validator: Option<&str>,
    ) -> Result<Body, HttpError> {
        match url.scheme() {
            "file" => return body::open_file(url, offset).await,
            "http" | "https" => {}
            _ => return Err(HttpError::Scheme { url: redact(url) }),
        }
        if self.options.offline {
            return Err(HttpError::Offline { url: redact(url) });
        }
        let in_url = Credential::of_url(url);
        let auth = auth.or(in_url.as_ref());
        let mut chain = redirect::Chain::new(url);
        loop {
            let mut request = self.http.get(chain.url().clone());
            if let Some(auth) = auth.filter(|_| chain.at_home()) {
                request = request.basic_auth(&auth.username, Some(&auth.password));
            }
            if offset > 0 {
                request = request.header(header::RANGE, format!("bytes={offset}-"));
                if let Some(validator) = validator {
                    request = request.header(header::IF_RANGE, validator);
                }
            }
            let response = self.within(chain.url(), request).await?;
            match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => {
                    let location = response.headers().get(header::LOCATION);
                    chain.follow(location.map(header::HeaderValue::as_bytes))?;
                }
                200 | 206 => return Body::new(chain.url(), response, offset, &self.options),
                416 if offset > 0 => return Err(HttpError::Range { url: redact(chain.url()) }),
                status => return Err(HttpError::status(chain.url(), status, response.headers())),
            }
        }
    }

    /// The head of the answer, within the time that a server may say nothing.
    async fn within(
        &self,
        url: &Url,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, HttpError> {
        let after = self.options.read_timeout;
        match tokio::time::timeout(after, request.send()).await {
            Ok(answer) => answer.map_err(|source| HttpError::request(url, source, &self.options)),
            Err(_) => Err(HttpError::Stalled { url: redact(url), after }),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

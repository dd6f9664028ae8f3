//! A whole file in memory: asked for again after a passing trouble, and gone on with after a cut.
//!
//! Two answers are put together only if something ties them: a strong ETag, with which the server is asked for the rest of
//! that version alone, or a digest that the caller knows. A server that refuses a range, or sends another, is asked for the
//! whole file from then on. Headway is what lies beyond the furthest byte that came before.

use url::Url;

use super::retry::{Attempts, HEADWAY};
use super::{Client, Credential, HttpError, redact};

impl Client {
    /// The whole body of `url`, at most `limit` bytes. A name and password in the URL are used.
    pub async fn get(&self, url: &Url, limit: u64) -> Result<Vec<u8>, HttpError> {
        self.get_with(url, None, limit).await
    }

    /// As [`Client::get`], with a credential for the URL's own origin.
    pub async fn get_with(
        &self,
        url: &Url,
        auth: Option<&Credential>,
        limit: u64,
    ) -> Result<Vec<u8>, HttpError> {
        Ok(Whole::new(self, url, auth, limit, Tie::ETag).read().await?.bytes)
    }

    /// As [`Client::get`], for a file of which `is_right` knows whether it is the one that was promised. When what several
    /// answers brought is not, it is asked for once more in one piece; what comes then is given back whatever it is.
    pub async fn get_promised(
        &self,
        url: &Url,
        limit: u64,
        is_right: &(dyn Fn(&[u8]) -> bool + Sync),
    ) -> Result<Vec<u8>, HttpError> {
        let whole = Whole::new(self, url, None, limit, Tie::Promise).read().await?;
        if !whole.joined || is_right(&whole.bytes) {
            return Ok(whole.bytes);
        }
        Ok(Whole::new(self, url, None, limit, Tie::Nothing).read().await?.bytes)
    }
}

/// What tells that the bytes of two answers are of one file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tie {
    ETag,
    /// The caller finds out.
    Promise,
    Nothing,
}

struct Whole<'a> {
    client: &'a Client,
    url: &'a Url,
    auth: Option<&'a Credential>,
    limit: u64,
    tie: Tie,
    bytes: Vec<u8>,
    /// The strong ETag of the answer that the bytes are from.
    etag: Option<String>,
    /// The bytes are from several answers.
    joined: bool,
}

impl<'a> Whole<'a> {
    fn new(client: &'a Client, url: &'a Url, auth: Option<&'a Credential>, limit: u64, tie: Tie) -> Self {
        Self { client, url, auth, limit, tie, bytes: Vec::new(), etag: None, joined: false }
    }

    /// With as many requests as it takes.
    async fn read(mut self) -> Result<Self, HttpError> {
        let mut attempts = Attempts::default();
        let mut furthest = 0;
        loop {
            let Err(error) = self.answer().await else { return Ok(self) };
            let came = self.bytes.len() as u64;
            if came >= furthest + HEADWAY {
                attempts.headway();
            }
            furthest = furthest.max(came);
            if matches!(error, HttpError::Range { .. }) && self.tie != Tie::Nothing {
                self.tie = Tie::Nothing;
                continue;
            }
            let Some(wait) = attempts.wait(&error, &self.client.options) else { return Err(error) };
            tokio::time::sleep(wait).await;
        }
    }

    /// One request, for what is missing.
    async fn answer(&mut self) -> Result<(), HttpError> {
        let etag = self.etag.clone().filter(|_| self.tie == Tie::ETag);
        if self.tie != Tie::Promise && etag.is_none() {
            self.bytes.clear();
        }
        let offset = self.bytes.len() as u64;
        let mut body = self.client.send(self.url, self.auth, offset, etag.as_deref()).await?;
        if body.offset() < offset {
            self.bytes.clear();
        }
        self.joined = !self.bytes.is_empty();
        self.etag = body.etag().map(str::to_owned);
        let too_large = || HttpError::TooLarge { url: redact(self.url), limit: self.limit };
        if body.total().is_some_and(|total| total > self.limit) {
            return Err(too_large());
        }
        while body.chunk(&mut self.bytes).await? > 0 {
            if self.bytes.len() as u64 > self.limit {
                return Err(too_large());
            }
        }
        match body.total() {
            Some(total) if (self.bytes.len() as u64) < total => {
                let source = format!("it ended after {} of {total} bytes", self.bytes.len()).into();
                Err(HttpError::Read { url: redact(self.url), source })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};

    use super::super::ClientOptions;
    use super::super::tests::quick;
    use super::super::testserver::{Reply, Request, TestServer};
    use super::*;

    const MIB: usize = 1 << 20;
    const LIMIT: u64 = 64 << 20;

    fn client() -> Client {
        // Nobody is to be found stalling.
        let read_timeout = std::time::Duration::from_secs(20);
        Client::new(&ClientOptions { read_timeout, ..quick() }).unwrap()
    }

    /// 8 MiB and a bit.
    fn content(salt: u8) -> Arc<[u8]> {
        static MADE: [OnceLock<Arc<[u8]>>; 2] = [const { OnceLock::new() }; 2];
        let make = || (0..8 * MIB as u32 + 123).map(|i| (i / 5) as u8 ^ (i >> 13) as u8 ^ salt).collect();
        Arc::clone(MADE[usize::from(salt)].get_or_init(make))
    }

    /// Resets each answer at 1 MiB.
    fn resets(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> TestServer {
        TestServer::start(move |request| script(request).reset(MIB))
    }

    #[tokio::test]
    async fn what_is_cut_is_gone_on_with() {
        let right = |bytes: &[u8]| *bytes == *content(0);
        let server = resets(|request| Reply::file(request, content(0)));
        let came = client().get_promised(&server.url("/f"), LIMIT, &right).await.unwrap();
        assert!(came == *content(0));
        assert!(server.log().len() >= 9);
        // Without a digest it takes a strong ETag.
        let server = resets(|request| Reply::file(request, content(0)).header("ETag", "\"version 1\""));
        assert!(client().get(&server.url("/f"), LIMIT).await.unwrap() == *content(0));
        assert_eq!(server.log()[3].header("if-range"), Some("\"version 1\""));
        let server = resets(|request| Reply::file(request, content(0)).header("ETag", "W/\"1\""));
        let error = client().get(&server.url("/f"), LIMIT).await.unwrap_err();
        assert!(matches!(error, HttpError::Read { .. }), "{error}");
        assert!(server.log().iter().all(|request| request.header("range").is_none()));
    }

    #[tokio::test]
    async fn bytes_of_several_files_are_asked_for_once_more() {
        let server = TestServer::start(|request| match request.number {
            0 => Reply::ok(content(1)).cut(MIB),
            _ => Reply::file(request, content(0)),
        });
        let right = |bytes: &[u8]| *bytes == *content(0);
        assert!(client().get_promised(&server.url("/f"), LIMIT, &right).await.unwrap() == *content(0));
        let offsets: Vec<_> = server.log().iter().map(Request::offset).collect();
        assert_eq!(offsets, [0, MIB, 0]);
    }

    #[tokio::test]
    async fn a_server_without_ranges_is_given_up() {
        let cases: [fn(&Request) -> Reply; 3] = [
            |_| Reply::ok(content(0)).cut(MIB),
            |request| match request.offset() {
                0 => Reply::ok(content(0)).cut(MIB),
                _ => Reply::status(416),
            },
            |request| match request.offset() {
                0 => Reply::ok(content(0)).cut(MIB),
                _ => Reply::status(206).header("Content-Range", "bytes 5-9/10"),
            },
        ];
        for (case, script) in cases.into_iter().enumerate() {
            let server = TestServer::start(script);
            let error = client().get_promised(&server.url("/f"), LIMIT, &|_| true).await.unwrap_err();
            assert!(matches!(error, HttpError::Read { .. }), "{case}: {error}");
            assert!(server.log().len() <= 7, "{case}: {} requests", server.log().len());
        }
    }
}

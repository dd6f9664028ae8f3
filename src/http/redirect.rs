//! Where a redirect may lead, and who still gets the credential there. Pure, so that each rule is a line of a table.

use url::Url;

use super::{HttpError, redact};

/// Redirects followed for one request.
pub const MOST: usize = 10;

/// Why no redirect leads from HTTPS to HTTP.
pub const GIVES_UP_ENCRYPTION: &str = "it would give up encryption";

/// The URLs that one request has gone through.
pub struct Chain {
    home: Url,
    current: Url,
    steps: usize,
    left_home: bool,
}

impl Chain {
    /// Begins at `url`, whose name and password are taken off.
    pub fn new(url: &Url) -> Self {
        let url = without_userinfo(url.clone());
        Self { home: url.clone(), current: url, steps: 0, left_home: false }
    }

    pub fn url(&self) -> &Url {
        &self.current
    }

    /// Whether a credential for the first URL may be sent to the current one: same scheme, host and port, and no
    /// other origin on the way, since that origin chose where the chain leads.
    pub fn at_home(&self) -> bool {
        !self.left_home
    }

    /// Goes where the `Location` header says.
    pub fn follow(&mut self, location: Option<&[u8]>) -> Result<(), HttpError> {
        let refuse =
            |to: &str, rule| Err(HttpError::Redirect { url: redact(&self.current), to: to.to_owned(), rule });
        let Some(location) = location.and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
            return refuse("an unreadable place", "the answer names no location");
        };
        let Ok(next) = self.current.join(location) else {
            return refuse("an unreadable place", "the location is not a URL");
        };
        let shown = redact(&next);
        match (self.current.scheme(), next.scheme()) {
            ("http", "http" | "https") | ("https", "https") => {}
            ("https", "http") => return refuse(&shown, GIVES_UP_ENCRYPTION),
            _ => return refuse(&shown, "it leaves HTTP"),
        }
        if next.host_str().is_none_or(str::is_empty) {
            return refuse(&shown, "the location has no host");
        }
        if self.steps == MOST {
            return refuse(&shown, "there were 10 redirects already");
        }
        self.steps += 1;
        self.current = without_userinfo(next);
        self.left_home |= self.current.origin() != self.home.origin();
        Ok(())
    }
}

fn without_userinfo(mut url: Url) -> Url {
    // Both fail only for URLs that cannot have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(from: &str, steps: &[&str]) -> Result<(String, bool), String> {
        let mut chain = Chain::new(&Url::parse(from).unwrap());
        for step in steps {
            chain.follow(Some(step.as_bytes())).map_err(|error| error.to_string())?;
        }
        Ok((chain.url().to_string(), chain.at_home()))
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        for (from, steps, to, at_home) in [
            ("https://u:p@a.example/x", &["/y"][..], "https://a.example/y", true),
            ("https://a.example/x/", &["../y?z"], "https://a.example/y?z", true),
            ("https://a.example/x", &["https://a.example:443/y"], "https://a.example/y", true),
            ("https://a.example/x", &["https://b.example/y"], "https://b.example/y", false),
            ("https://a.example/x", &["//cdn.a.example/y"], "https://cdn.a.example/y", false),
            ("https://a.example/x", &["https://a.example:8443/y"], "https://a.example:8443/y", false),
            ("http://a.example/x", &["https://a.example/x"], "https://a.example/x", false),
            (
                "https://a.example/x",
                &["https://b.example/", "https://a.example/"],
                "https://a.example/",
                false,
            ),
            ("https://a.example/x", &["https://evil:pw@a.example/y"], "https://a.example/y", true),
        ] {
            assert_eq!(walk(from, steps), Ok((to.to_owned(), at_home)), "{from} {steps:?}");
        }
    }

    #[test]
    fn redirects_that_are_refused() {
        for (from, to, rule) in [
            ("https://a.example/", "http://a.example/", "give up encryption"),
            ("https://a.example/", "file:///etc/passwd", "leaves HTTP"),
            ("http://a.example/", "ftp://a.example/", "leaves HTTP"),
            ("http://a.example/", "data:text/plain,x", "leaves HTTP"),
            ("http://a.example/", "http://[", "not a URL"),
        ] {
            assert!(walk(from, &[to]).unwrap_err().contains(rule), "{to}");
        }
        assert!(walk("http://a.example/", &["/"; MOST]).is_ok());
        assert!(walk("http://a.example/", &["/"; MOST + 1]).unwrap_err().contains("10 redirects"));
        assert!(Chain::new(&Url::parse("http://a.example/").unwrap()).follow(None).is_err());
    }
}

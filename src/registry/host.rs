//! Which registry: a host and a port.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::Url;

use super::hub;

/// Host and port, lower case, as in references: `registry.example`, `127.0.0.1:5000`, `[::1]:5000`. Port 443 is left out; a
/// registry on port 80 is written `:80`, so there is one spelling of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a registry: a host, and a port if need be")]
pub struct HostError(String);

impl Host {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the port.
    pub fn name(&self) -> &str {
        self.split().0
    }

    pub fn port(&self) -> u16 {
        self.split().1
    }

    /// This machine: `localhost`, or an address of 127.0.0.0/8 or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        let name = self.name();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// What an authentication file and credential helpers call it.
    pub(super) fn login(&self) -> &str {
        hub::login(&self.0)
    }

    /// Its repository that a reference with this path means.
    pub fn repository<'a>(&self, path: &'a str) -> Cow<'a, str> {
        hub::repository(&self.0, path)
    }

    /// Whether it has its token server at `realm`, though that is another host.
    pub(super) fn has_token_server(&self, realm: &Self) -> bool {
        hub::is_token_server(&self.0, &realm.0)
    }

    /// The host of a URL, whose default port is that of its scheme.
    pub fn of(url: &Url) -> Option<Self> {
        let port = url.port_or_known_default()?;
        Some(Self::join(url.host_str()?, port))
    }

    /// `https://HOST/`, or `http://HOST/` with `plain`.
    pub fn url(&self, plain: bool) -> Url {
        let scheme = if plain { "http" } else { "https" };
        // Written out: the default port of the other scheme is not that of this one.
        let text = format!("{scheme}://{}:{}/", hub::endpoint(self.name()), self.port());
        Url::parse(&text).expect("a host that was parsed")
    }

    fn join(name: &str, port: u16) -> Self {
        let name = name.to_ascii_lowercase();
        Self(if port == 443 { hub::canonical(&name).to_owned() } else { format!("{name}:{port}") })
    }

    fn split(&self) -> (&str, u16) {
        let end = self.0.rfind(']').map_or(0, |bracket| bracket + 1);
        match self.0[end..].rfind(':') {
            Some(colon) => (&self.0[..end + colon], self.0[end + colon + 1..].parse().expect("checked")),
            None => (&self.0, 443),
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let wrong = || HostError(text.chars().take(300).collect());
        let url = Url::parse(&format!("https://{text}/")).map_err(|_| wrong())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
        let bare = url.query().is_none() && url.fragment().is_none() && !text.contains(['/', '\\', '@']);
        if !plain || !bare {
            return Err(wrong());
        }
        Self::of(&url).ok_or_else(wrong)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_each() {
        for (text, same, name, port, loopback, url) in [
            (
                "Registry.Example",
                "registry.example",
                "registry.example",
                443,
                false,
                "https://registry.example/",
            ),
            (
                "registry.example:443",
                "registry.example",
                "registry.example",
                443,
                false,
                "https://registry.example/",
            ),
            (
                "registry.example:80",
                "registry.example:80",
                "registry.example",
                80,
                false,
                "https://registry.example:80/",
            ),
            ("localhost:5000", "localhost:5000", "localhost", 5000, true, "https://localhost:5000/"),
            ("127.0.0.2:5000", "127.0.0.2:5000", "127.0.0.2", 5000, true, "https://127.0.0.2:5000/"),
            ("[::1]:5000", "[::1]:5000", "[::1]", 5000, true, "https://[::1]:5000/"),
            ("[2001:db8::1]", "[2001:db8::1]", "[2001:db8::1]", 443, false, "https://[2001:db8::1]/"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!((host.as_str(), host.name(), host.port()), (same, name, port), "{text}");
            assert_eq!(host.is_loopback(), loopback, "{text}");
            assert_eq!(host.url(false).as_str(), url, "{text}");
            assert_eq!(Host::of(&host.url(false)), Some(host.clone()));
            assert_eq!(Host::of(&host.url(true)), Some(host));
        }
    }

    #[test]
    fn docker_hub_has_one_name_here() {
        for text in ["docker.io", "Index.Docker.io", "registry-1.docker.io:443"] {
            let host: Host = text.parse().unwrap();
            assert_eq!(host.as_str(), "docker.io", "{text}");
            assert_eq!(host.url(false).as_str(), "https://registry-1.docker.io/");
            assert_eq!(Host::of(&host.url(false)), Some(host.clone()));
            assert_eq!(host.login(), "https://index.docker.io/v1/");
            assert_eq!((&*host.repository("python"), &*host.repository("a/b")), ("library/python", "a/b"));
            let is_its = |realm: &str| host.has_token_server(&realm.parse().unwrap());
            assert!(is_its("auth.docker.io") && !is_its("auth.docker.io:444") && !is_its("auth.example"));
        }
        let host: Host = "registry.example".parse().unwrap();
        assert_eq!((host.login(), &*host.repository("python")), ("registry.example", "python"));
        assert!(!host.has_token_server(&"auth.docker.io".parse().unwrap()));
    }

    #[test]
    fn what_is_no_host() {
        for text in [
            "",
            "a b",
            "a/b",
            "me@a",
            "a:b",
            "a:70000",
            "a?b",
            "a#b",
            "https://a",
            "localhost.evil@b",
            "a\\b",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
        let loopback = |text: &str| text.parse::<Host>().unwrap().is_loopback();
        assert!(!loopback("localhost.example") && !loopback("127.0.0.1.example") && !loopback("10.0.0.1"));
    }
}

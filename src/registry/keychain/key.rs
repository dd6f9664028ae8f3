//! The keys of an authentication file: which registry each means.
//!
//! | key | means |
//! |---|---|
//! | `registry.example`, `registry.example:5000`, `[::1]:5000` | this host and port |
//! | `registry.example/`, `registry.example/v1/`, `registry.example/v2/` | the same, as old versions of Docker write it |
//! | `https://registry.example/any/path` | the same |
//! | `http://registry.example` | port 80 of it: a scheme has its port |
//! | `registry.example/team` | one namespace of it (containers-auth.json(5)): no registry, and not used |
//!
//! Nothing else is derived: no suffix, no wildcard, no other name but those of Docker Hub (`registry::hub`).

use crate::registry::Host;

/// The registry that a key means as a whole; none for a namespace, and for what is no key.
pub(super) fn host(key: &str) -> Option<Host> {
    if key.starts_with("https://") || key.starts_with("http://") {
        let url = url::Url::parse(key).ok()?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        return is_plain.then(|| Host::of(&url)).flatten();
    }
    let (name, path) = key.split_once('/').unwrap_or((key, ""));
    matches!(path, "" | "v1" | "v1/" | "v2" | "v2/").then(|| name.parse().ok()).flatten()
}

/// The registry of which a key means a namespace.
pub(super) fn namespaced_host(key: &str) -> Option<Host> {
    let (name, _) = key.split_once('/')?;
    if host(key).is_some() { None } else { name.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_registry_a_key_means() {
        for (key, means) in [
            ("registry.example", Some("registry.example")),
            ("Registry.Example:443", Some("registry.example")),
            ("registry.example/", Some("registry.example")),
            ("registry.example:5000/v1/", Some("registry.example:5000")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            ("registry.example/v2", Some("registry.example")),
            ("https://registry.example", Some("registry.example")),
            ("https://registry.example:5000/v1/", Some("registry.example:5000")),
            ("https://registry.example/any/path", Some("registry.example")),
            ("http://registry.example", Some("registry.example:80")),
            ("http://127.0.0.1:5000/", Some("127.0.0.1:5000")),
            ("[::1]:5000", Some("[::1]:5000")),
            ("registry.example/team", None),
            ("registry.example/v1/team", None),
            ("https://me@registry.example/", None),
            ("https://", None),
            ("ftp://registry.example", None),
            ("*.example", Some("*.example")),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(host(key).as_ref().map(Host::as_str), means, "{key}");
        }
    }

    #[test]
    fn namespaces_are_told_from_registries() {
        let of = |key| namespaced_host(key).map(|host| host.as_str().to_owned());
        assert_eq!(of("registry.example/team").as_deref(), Some("registry.example"));
        assert_eq!(of("registry.example/team/app").as_deref(), Some("registry.example"));
        for key in ["registry.example", "registry.example/v1/", "https://registry.example/team", "a b/c"] {
            assert_eq!(of(key), None, "{key}");
        }
    }
}

//! Docker Hub, the one registry whose references, API, token server and logins have four names, and whose official images
//! leave out a part of theirs. People write `docker.io/python:3.12`, and expect what Docker does with it.
//!
//! | of `docker.io` | |
//! |---|---|
//! | references, settings, our own records | `docker.io` |
//! | the API | [`ENDPOINT`] |
//! | the token server | [`TOKEN_SERVER`]: named without any setting |
//! | `docker login`'s entry | [`LOGIN`] |
//! | `docker.io/python` | the repository `library/python` |

use std::borrow::Cow;

/// As references have it.
const NAME: &str = "docker.io";
const ENDPOINT: &str = "registry-1.docker.io";
const TOKEN_SERVER: &str = "auth.docker.io";
const LOGIN: &str = "https://index.docker.io/v1/";
/// Where repositories without a namespace are.
const OFFICIAL: &str = "library";

/// The one name of the registry that a host name, on the port of HTTPS, means.
pub(super) fn canonical(name: &str) -> &str {
    match name {
        "index.docker.io" | ENDPOINT => NAME,
        name => name,
    }
}

/// The host that serves the registry of a canonical name.
pub(super) fn endpoint(name: &str) -> &str {
    if name == NAME { ENDPOINT } else { name }
}

/// Whether `registry` has its token server at `realm`, though that is another host.
pub(super) fn is_token_server(registry: &str, realm: &str) -> bool {
    registry == NAME && realm == TOKEN_SERVER
}

/// What Docker calls the registry in its authentication file and to credential helpers.
pub(super) fn login(registry: &str) -> &str {
    if registry == NAME { LOGIN } else { registry }
}

/// The repository of `registry` that a reference means.
pub(super) fn repository<'a>(registry: &str, repository: &'a str) -> Cow<'a, str> {
    match registry == NAME && !repository.contains('/') {
        true => Cow::Owned(format!("{OFFICIAL}/{repository}")),
        false => Cow::Borrowed(repository),
    }
}

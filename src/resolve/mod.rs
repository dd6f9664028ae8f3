//! Which Python packages go into the image: requirements in, one wheel of each package out.
//!
//! Two ways lead to a [`Resolution`]. [`resolve`] asks the package indexes, through uv's own resolver; [`from_lock`]
//! takes a `uv.lock` or `pylock.toml` as it is. Both answer for one platform and one exact Python at a time, with
//! wheels only: nothing is built, no Python of the host takes part. [`read_inputs`] comes before both and needs no
//! network: it reads the files that `[python]` names and normalises what they ask for.
//!
//! Rules:
//! - This is the only module that names `uv-*`, and only its `uv` part does. Requests and answers are plain values, so
//!   that they can be recorded, compared and made by tests.
//! - Platforms are resolved in turn; the pins of the first are the preferences of the second ([`Request::preferences`]),
//!   as are the pins of a previous lock. A preference loses against any requirement.
//! - An index named first wins: when it has a package at all, later ones are not asked for that package. A package
//!   pinned to an index ([`Index::packages`](crate::spec::model::Index)) comes from that index or from none, also when
//!   only another package asks for it.
//!   Only an answer that says "no such package" (404, and 403 of PyTorch's own index, which means it there) lets the next
//!   index be asked: a refusal, an error, a page for people or nonsense ends the search, since a private name must not be looked up where anybody may register it. Offline, an
//!   index whose page of a package is not in the cache counts as one that does not have it.
//! - The environment does not change an answer. All options are spelled out here, uv's settings files, keyrings and
//!   credential stores are not read, and the few variables that uv's crates read deep inside and that would change an
//!   answer make [`resolve`] fail. What is read: credentials (see [`credentials`]), proxies and trusted certificates
//!   (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and the like).
//! - Credentials travel in request headers only. The URLs that uv sees, and hence its cache, its messages and our
//!   answers, have none. A wheel whose URL is signed is refused, since its lock would be a secret.
//!
//! Limits: no source distributions, no local paths, no version control, no `--find-links`; `file:` indexes are refused.

mod answer;
pub mod credentials;
mod error;
#[cfg(test)]
mod hostile_tests;
mod inputs;
#[cfg(test)]
mod inside_tests;
mod request;
#[cfg(test)]
mod tests;
mod uv;

pub use answer::{Resolution, Resolved, WheelFile};
pub use credentials::{Credential, Credentials, Sources, without_credentials};
pub use error::{InputError, ResolveError};
pub use inputs::{Asked, InputLockFile, PythonInputs, from_lock, read_inputs};
pub use request::{Pin, Request, Upgrade};
pub use uv::resolve;

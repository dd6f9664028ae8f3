//! Which repositories of a registry have a blob, as far as this machine has seen: where it may be mounted from. A hint: what
//! is wrong or forgotten costs a request.

use crate::digest::Digest;
use crate::engine::Place;
use crate::registry::Host;
use crate::store::{Store, StoreError};

/// Repositories remembered for a blob, the latest first: in effect all, for a memo of some kilobytes. Many are remembered only
/// where mounts work, since one that does not give the blob is forgotten.
const MOST: usize = 64;

/// Repositories of `host` that have had the blob.
pub fn repositories(store: &Store, host: &Host, blob: &Digest) -> Result<Vec<String>, StoreError> {
    let memo = store.memo_get(&key(host, blob))?;
    let text = memo.and_then(|memo| String::from_utf8(memo).ok()).unwrap_or_default();
    Ok(text.lines().map(str::to_owned).collect())
}

/// The repository has the blob.
pub fn remember(store: &Store, place: &Place, blob: &Digest) -> Result<(), StoreError> {
    let mut known = repositories(store, &place.host, blob)?;
    if known.contains(&place.repository) {
        return Ok(());
    }
    known.insert(0, place.repository.clone());
    known.truncate(MOST);
    store.memo_put(&key(&place.host, blob), known.join("\n").as_bytes())
}

/// The repository has not had the blob after all, or does not give it.
pub fn forget(store: &Store, place: &Place, blob: &Digest) -> Result<(), StoreError> {
    let mut known = repositories(store, &place.host, blob)?;
    if !known.contains(&place.repository) {
        return Ok(());
    }
    known.retain(|repository| *repository != place.repository);
    store.memo_put(&key(&place.host, blob), known.join("\n").as_bytes())
}

fn key(host: &Host, blob: &Digest) -> Digest {
    Digest::of(format!("repositories of {host} with {blob}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_repositories_are_remembered() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let (blob, other) = (Digest::of("blob"), Digest::of("other"));
        let place = |name: &str| Place { host: "registry.example".parse().unwrap(), repository: name.into() };
        for name in (0..MOST).map(|n| n.to_string()) {
            remember(&store, &place(&format!("n{name}")), &blob).unwrap();
        }
        for name in ["a", "b", "a", "c", "d", "e"] {
            remember(&store, &place(name), &blob).unwrap();
        }
        let host = place("a").host;
        let known = repositories(&store, &host, &blob).unwrap();
        assert_eq!(
            (&known[..6], known.len()),
            (&["e", "d", "c", "b", "a", "n63"].map(str::to_owned)[..], MOST)
        );
        for name in ["d", "x"] {
            forget(&store, &place(name), &blob).unwrap();
        }
        assert_eq!(repositories(&store, &host, &blob).unwrap()[..4], ["e", "c", "b", "a"]);
        assert!(repositories(&store, &host, &other).unwrap().is_empty());
        assert!(repositories(&store, &"registry.example:5000".parse().unwrap(), &blob).unwrap().is_empty());
    }
}

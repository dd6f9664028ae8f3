//! Many downloads at once.

use futures::StreamExt;
use url::Url;

use crate::http::Client;
use crate::http::Credential;
use crate::store::Store;

use super::{FetchError, FetchEvent, Fetched, Want, fetch};

/// How many downloads run at once when nobody says otherwise.
pub const JOBS: usize = 8;

/// Brings all of `wants` into the store, at most `jobs` at a time, the largest first; the answers are in the order of
/// `wants`, and `progress` is told which of them it is about.
///
/// A failure does not stop the others, so that all are reported in one go (in the order of `wants`) and what could be
/// downloaded is there next time. An integrity error does: no other download begins, those under way are dropped and
/// can be resumed.
pub async fn fetch_all(
    client: &Client,
    store: &Store,
    wants: &[Want],
    jobs: usize,
    auth: &(dyn Fn(&Url) -> Option<Credential> + Sync),
    progress: &(dyn Fn(usize, FetchEvent) + Sync),
) -> Result<Vec<Fetched>, Vec<FetchError>> {
    let mut order: Vec<usize> = (0..wants.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(wants[index].size));
    let mut downloads = futures::stream::iter(order)
        .map(|index| async move {
            let progress = |event| progress(index, event);
            (index, fetch(client, store, &wants[index], auth, &progress).await)
        })
        .buffer_unordered(jobs.max(1));
    let mut fetched: Vec<Option<Fetched>> = vec![None; wants.len()];
    let mut errors = Vec::new();
    while let Some((index, result)) = downloads.next().await {
        match result {
            Ok(file) => fetched[index] = Some(file),
            Err(error) => {
                let stop = error.is_integrity();
                errors.push((index, error));
                if stop {
                    break;
                }
            }
        }
    }
    if errors.is_empty() {
        return Ok(fetched.into_iter().flatten().collect());
    }
    errors.sort_by_key(|(index, _)| *index);
    Err(errors.into_iter().map(|(_, error)| error).collect())
}

//! Several layers at once, by a few threads.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::ExportError;
use crate::digest::Digest;

/// Calls `write` for each layer once, the largest first, each by whichever thread is free. Of several errors the one of
/// the largest layer is reported, whatever the threads' order; after one no other layer is begun.
pub(super) fn each_layer(
    layers: &[(Digest, u64)],
    jobs: usize,
    write: &(dyn Fn((Digest, u64)) -> Result<(), ExportError> + Sync),
) -> Result<(), ExportError> {
    let mut wanted = layers.to_vec();
    wanted.sort_by_key(|(digest, size)| (Reverse(*size), *digest));
    wanted.dedup();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let first: Mutex<Option<(usize, ExportError)>> = Mutex::new(None);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = wanted.get(at) else { break };
            if let Err(error) = write(*layer) {
                stop.store(true, Ordering::Relaxed);
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(|(before, _)| at < *before) {
                    *first = Some((at, error));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.min(wanted.len()) {
            scope.spawn(work);
        }
        work();
    });
    match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn layers(count: u64) -> Vec<(Digest, u64)> {
        (0..count).map(|size| (Digest::of(size.to_string()), size)).collect()
    }

    #[test]
    fn each_is_written_once_whatever_the_number_of_threads() {
        let (once, mut twice) = (layers(20), layers(20));
        twice.extend_from_slice(&once);
        for jobs in [0, 1, 3, 50] {
            let seen = Mutex::new(Vec::new());
            each_layer(&twice, jobs, &|layer| {
                seen.lock().unwrap().push(layer);
                Ok(())
            })
            .unwrap();
            let mut seen = seen.into_inner().unwrap();
            seen.sort_by_key(|(_, size)| *size);
            assert_eq!(seen, once, "{jobs} jobs");
        }
    }

    #[test]
    fn the_error_of_the_largest_layer_is_told() {
        let layers = layers(20);
        let both = Barrier::new(2);
        let calls = AtomicUsize::new(0);
        let error = each_layer(&layers, 2, &|(digest, size)| {
            calls.fetch_add(1, Ordering::Relaxed);
            both.wait();
            // The smaller one fails first.
            if size == 19 {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Err(ExportError::MissingDocument(digest))
        });
        assert!(matches!(error, Err(ExportError::MissingDocument(of)) if of == layers[19].0), "{error:?}");
        assert_eq!(calls.into_inner(), 2, "no third one is begun");
    }
}

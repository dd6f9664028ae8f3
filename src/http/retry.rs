//! When a failed request is made again: full-jitter exponential back-off, or what the server asks for.
//!
//! Full jitter (a uniform choice between nothing and the doubling bound) spreads the many clients that one outage
//! hits at the same moment. `Retry-After` is taken in both forms of RFC 9110, seconds and HTTP date; a wait longer
//! than [`LONGEST_WAIT`] is not waited for, the error is reported instead.

use std::hash::BuildHasher;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{ClientOptions, HttpError};
use crate::epoch::http_date;

/// The longest `Retry-After` that is obeyed.
pub const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// The upper bound of the back-off.
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// How long to wait after failure number `failures` (from 0).
pub fn delay(failures: u32, error: &HttpError, options: &ClientOptions) -> Duration {
    let bound = options.backoff.saturating_mul(1 << failures.min(16)).min(LONGEST_BACKOFF);
    let jitter = bound.mul_f64(random());
    match error {
        HttpError::Status { retry_after: Some(wait), .. } => {
            (*wait).min(LONGEST_WAIT) + jitter.min(*wait / 10)
        }
        _ => jitter,
    }
}

/// An answer that brought so many bytes further than any before it counts as a success: a long download may be cut any number
/// of times, also by something on the way that resets a connection at every MiB.
pub const HEADWAY: u64 = 128 << 10;
/// How long all waits of one operation may be in sum while it makes no headway.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What one operation has been through: it ends after [`ClientOptions::retries`] failures, or when the next wait would make
/// all of them longer than [`PATIENCE`].
#[derive(Debug, Default)]
pub struct Attempts {
    failures: u32,
    waited: Duration,
}

impl Attempts {
    /// How long to wait after this failure; none if it was the last.
    pub fn wait(&mut self, error: &HttpError, options: &ClientOptions) -> Option<Duration> {
        if self.failures >= error.retries(options) {
            return None;
        }
        let wait = delay(self.failures, error, options);
        self.failures += 1;
        self.waited += wait;
        (self.waited <= PATIENCE).then_some(wait)
    }

    /// The last attempt got somewhere: what was before it no longer counts.
    pub fn headway(&mut self) {
        *self = Self::default();
    }
}

/// The value of a `Retry-After` header as a wait from `now` (seconds since 1970) on; none when it is neither form.
pub fn retry_after(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    Some(Duration::from_secs(http_date(value)?.saturating_sub(now)))
}

/// Seconds since 1970, for `Retry-After` dates only.
#[expect(clippy::disallowed_methods, reason = "a date by which to come back means nothing without today's")]
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A number in `0.0..1.0`: the standard library's seed for hash tables is random enough to spread clients.
#[expect(clippy::disallowed_types, reason = "only the length of a pause depends on it")]
fn random() -> f64 {
    let bits = std::hash::RandomState::new().hash_one(0_u8);
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_wishes_are_read() {
        let seconds = |value, now| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("7", 0), Some(7));
        assert_eq!(seconds("99999999999999999999999", 0), Some(u64::MAX));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_770), Some(7));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT", 984_111_770), Some(0));
        assert_eq!(seconds("soon", 0), None);
        assert_eq!(seconds("-1", 0), None);
    }

    #[test]
    fn operations_end() {
        let options = ClientOptions::default();
        let busy = |seconds| HttpError::Status {
            url: String::new(),
            status: 429,
            retry_after: Some(Duration::from_secs(seconds)),
        };
        for (seconds, waits) in [(0, options.retries as usize), (100, 2), (121, 0)] {
            let mut attempts = Attempts::default();
            let count = std::iter::from_fn(|| attempts.wait(&busy(seconds), &options)).count();
            assert_eq!(count, waits, "{seconds}");
            attempts.headway();
            assert_eq!(attempts.wait(&busy(seconds), &options).is_some(), waits > 0);
        }
    }

    #[test]
    fn delays_are_bounded() {
        let options = ClientOptions::default();
        let stalled = HttpError::Stalled { url: String::new(), after: Duration::ZERO };
        for failures in 0..40 {
            assert!(delay(failures, &stalled, &options) <= LONGEST_BACKOFF);
        }
        let busy =
            HttpError::Status { url: String::new(), status: 429, retry_after: Some(Duration::from_secs(9)) };
        let wait = delay(0, &busy, &options);
        assert!(wait >= Duration::from_secs(9) && wait < Duration::from_secs(10), "{wait:?}");
    }
}

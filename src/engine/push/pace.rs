//! How long bytes were on their way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Adds up the time in which something is sent, however much at once; only people are told.
#[derive(Default)]
pub struct Pace(Mutex<State>);

#[derive(Default)]
struct State {
    under_way: usize,
    since: Option<Instant>,
    took: Duration,
}

/// Something is sent as long as it lives.
pub struct Sending<'p>(&'p Pace);

impl Pace {
    pub fn start(&self) -> Sending<'_> {
        self.state().begin(Instant::now());
        Sending(self)
    }

    pub fn took(&self) -> Duration {
        self.state().took
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.state().end(Instant::now());
    }
}

impl State {
    fn begin(&mut self, now: Instant) {
        self.under_way += 1;
        self.since.get_or_insert(now);
    }

    fn end(&mut self, now: Instant) {
        self.under_way -= 1;
        if self.under_way == 0
            && let Some(since) = self.since.take()
        {
            self.took += now - since;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_once_and_only_while_something_is_sent() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut state = State::default();
        state.begin(after(1));
        state.begin(after(2));
        state.end(after(3));
        state.end(after(4));
        assert_eq!(state.took.as_secs(), 3);
        state.begin(after(10));
        state.end(after(11));
        assert_eq!(state.took.as_secs(), 4);
        let pace = Pace::default();
        drop((pace.start(), pace.start()));
        assert!(pace.took() > Duration::ZERO && pace.state().under_way == 0);
    }
}

//! SIGINT, SIGTERM and SIGHUP: the first asks the engine to stop, the second stops the process at once.
//!
//! Stopping at once is safe too: the store needs no repair after it. It only may leave temporary files, which the next
//! run removes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::TERM_SIGNALS;

use crate::engine::Cancel;

/// Sets `cancel` when a signal asks to stop.
pub fn watch(cancel: &Cancel) -> std::io::Result<()> {
    let seen = Arc::new(AtomicBool::new(false));
    for &signal in TERM_SIGNALS.iter().chain(&[signal_hook::consts::SIGHUP]) {
        // In this order: a second signal finds the flag set and exits, the first only sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&seen))?;
        signal_hook::flag::register(signal, Arc::clone(&seen))?;
    }
    let cancel = cancel.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        cancel.cancel();
    })?;
    Ok(())
}

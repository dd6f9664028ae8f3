//! SIGINT, SIGTERM, SIGQUIT and SIGHUP: the first asks the engine to stop, the second stops the process at once, and so do
//! some seconds in which the engine could not stop because it was reading from or writing to something that does not move.
//!
//! The exit status is 128 and the signal's number, as shells have it. A stopped run leaves no temporary file. Stopping at
//! once is safe too, since the store needs no repair after it; it only may leave temporary files, which the next run
//! removes. What has been downloaded of a file stays in any case, and the next run goes on from it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::cli::{Exit, out};
use crate::engine::Cancel;

const SIGNALS: [(i32, Exit); 4] =
    [(SIGHUP, Exit::HungUp), (SIGINT, Exit::Interrupted), (SIGQUIT, Exit::Quit), (SIGTERM, Exit::Terminated)];
/// How often the flag of the signals is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the engine may take to stop.
const PATIENCE: Duration = Duration::from_secs(4);

/// The signal that came first; 0 before.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Sets `cancel` when a signal asks to stop.
pub fn watch(cancel: &Cancel) -> io::Result<()> {
    let seen = Arc::new(AtomicBool::new(false));
    let mut came = Vec::new();
    for (signal, exit) in SIGNALS {
        let flag = Arc::new(AtomicBool::new(false));
        // In this order: a second signal finds the flag set and exits, the first only sets it.
        signal_hook::flag::register_conditional_shutdown(signal, exit as i32, Arc::clone(&seen))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&seen))?;
        came.push((signal, flag));
    }
    let cancel = cancel.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let signal = loop {
            if let Some((signal, _)) = came.iter().find(|(_, flag)| flag.load(Ordering::SeqCst)) {
                break *signal;
            }
            std::thread::sleep(LOOK_AGAIN);
        };
        FIRST.store(signal, Ordering::SeqCst);
        cancel.cancel();
        std::thread::sleep(PATIENCE);
        out::talk(format_args!("cancelled\n"));
        std::process::exit(exit() as i32);
    })?;
    Ok(())
}

/// How a run ends that a signal has stopped.
pub fn exit() -> Exit {
    let first = FIRST.load(Ordering::SeqCst);
    SIGNALS.iter().find(|(signal, _)| *signal == first).map_or(Exit::Interrupted, |(_, exit)| *exit)
}

//! SIGINT, SIGTERM, SIGQUIT and SIGHUP: the first asks the engine to stop, one that comes later stops the process at
//! once, and so do some seconds in which the engine could not stop because it was reading from or writing to something
//! that does not move.
//!
//! One that was ignored when mlbuild was started stays ignored: `nohup mlbuild build` outlives its terminal.
//!
//! What comes together with the first is not a second wish: a terminal signals the whole process group, and a parent in
//! it often passes the signal on as well.
//!
//! The exit status is 128 and the signal's number, as shells have it. A stopped run leaves no temporary file. Stopping at
//! once is safe too, since the store needs no repair after it; it only may leave temporary files, which the next run
//! removes. What has been downloaded of a file stays in any case, and the next run goes on from it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::cli::{Exit, out};
use crate::engine::Cancel;
use crate::sandbox::Ignored;

const SIGNALS: [(i32, Exit); 4] =
    [(SIGHUP, Exit::HungUp), (SIGINT, Exit::Interrupted), (SIGQUIT, Exit::Quit), (SIGTERM, Exit::Terminated)];
/// How often the flag of the signals is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What comes in this time after the first signal is the same wish to stop.
const TOGETHER: Duration = Duration::from_millis(500);
/// How long the engine may take to stop.
const PATIENCE: Duration = Duration::from_secs(4);

/// The signal that came first; 0 before.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Sets `cancel` when a signal asks to stop.
pub fn watch(cancel: &Cancel) -> io::Result<()> {
    let mut came = Vec::new();
    let ignored = Ignored::now();
    for (signal, _) in SIGNALS.into_iter().filter(|(signal, _)| !ignored.has(*signal)) {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
        came.push((signal, flag));
    }
    let cancel = cancel.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        // One that came since the last look, if any.
        let look = || {
            let found: Vec<i32> = came
                .iter()
                .filter_map(|(signal, flag)| flag.swap(false, Ordering::SeqCst).then_some(*signal))
                .collect();
            found.first().copied()
        };
        let first = loop {
            match look() {
                Some(signal) => break signal,
                None => std::thread::sleep(LOOK_AGAIN),
            }
        };
        FIRST.store(first, Ordering::SeqCst);
        cancel.cancel();
        #[expect(clippy::disallowed_methods, reason = "how long the engine takes to stop")]
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            std::thread::sleep(LOOK_AGAIN);
            if look().is_some() && start.elapsed() > TOGETHER {
                break;
            }
        }
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

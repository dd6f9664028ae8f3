//! Events of the engine on standard error: one calm display on a terminal, plain lines elsewhere.
//!
//! On a terminal one line says the phase, bytes, rate and time left, and is gone at the end. Elsewhere (CI logs) a
//! line is written when a phase begins and then at most every [`PLAIN_INTERVAL`]. Nothing is shown with `--quiet`
//! but warnings.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::failure::indent;
use crate::cli::out;
use crate::engine::{Event, Phase, Reporter};
use crate::size::{counted, human as bytes};

/// Time between two plain lines of one phase.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
/// A phase shorter than this shows nothing on a terminal.
const CALM: Duration = Duration::from_millis(300);

/// Shows events; one for each run of the program.
pub struct Progress {
    quiet: bool,
    state: Mutex<State>,
}

struct State {
    /// Present on a terminal.
    bar: Option<ProgressBar>,
    phase: Option<Phase>,
    began: Instant,
    last_line: Instant,
    counts: Counts,
    /// Every phase with the time it took, for `--json`.
    times: Vec<(Phase, Duration)>,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    bytes: u64,
    total: u64,
    files: u64,
    files_done: u64,
    layers: u64,
    layers_done: u64,
    /// Whatever the phase.
    sending: Sending,
}

/// What goes to a registry: bytes, and the time in which any of them were under way. What need not be sent is not counted.
#[derive(Default, Clone, Copy)]
struct Sending {
    sent: u64,
    all: u64,
    took: Duration,
    since: Option<Instant>,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let terminal = !quiet && out::talks_to_terminal();
        let now = now();
        let state = State {
            bar: terminal.then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())),
            phase: None,
            began: now,
            last_line: now,
            counts: Counts::default(),
            times: Vec::new(),
        };
        Self { quiet, state: Mutex::new(state) }
    }

    /// Ends the display; nothing of it stays on a terminal. Gives the phases with their times.
    pub fn finish(&self) -> Vec<(Phase, Duration)> {
        let mut state = self.lock();
        state.end_phase();
        if let Some(bar) = &state.bar {
            bar.finish_and_clear();
        }
        std::mem::take(&mut state.times)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn line(&self, state: &State, text: &str) {
        let text = indent(text);
        match &state.bar {
            Some(bar) => bar.suspend(|| out::talk(format_args!("{text}\n"))),
            None => out::talk(format_args!("{text}\n")),
        }
    }
}

impl Reporter for Progress {
    fn event(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Phase(phase) => {
                state.end_phase();
                state.begin(phase);
            }
            Event::Downloads { files, bytes } => {
                state.counts.files = files;
                state.counts.total = bytes;
            }
            Event::Exports { bytes } | Event::Unpacks { bytes, .. } => state.counts.total = bytes,
            Event::Downloaded { bytes } | Event::Exported { bytes } | Event::Unpacked { bytes } => {
                state.counts.bytes += bytes;
            }
            Event::Rewound { bytes } => state.counts.bytes = state.counts.bytes.saturating_sub(bytes),
            Event::DownloadDone { .. } => state.counts.files_done += 1,
            Event::Layers { to_make, .. } => state.counts.layers = to_make,
            Event::LayerMade { .. } => state.counts.layers_done += 1,
            Event::Pushes { bytes } => state.counts.sending.more(bytes, now()),
            Event::Pushed { bytes } => state.counts.sending.moved(bytes, now()),
            Event::PushedAgain { bytes } => state.counts.sending.again(bytes, now()),
            Event::Retried { name, why } => {
                if !self.quiet {
                    self.line(&state, &format!("retrying {name}: {why}"));
                }
            }
            Event::Note(text) => {
                if !self.quiet {
                    self.line(&state, &text);
                }
            }
            Event::Warning(text) => self.line(&state, &format!("warning: {text}")),
        }
        if !self.quiet {
            state.show();
        }
    }
}

impl State {
    fn begin(&mut self, phase: Phase) {
        let now = now();
        self.phase = Some(phase);
        self.began = now;
        self.last_line = now;
        let sending = self.counts.sending;
        self.counts = Counts { sending, ..Counts::default() };
        if let Some(bar) = &self.bar {
            bar.reset();
            // Reading files is over before one could read of it.
            if phase != Phase::Files {
                self.draw();
            }
        }
    }

    fn end_phase(&mut self) {
        if let Some(phase) = self.phase.take() {
            self.times.push((phase, self.began.elapsed()));
        }
    }

    fn show(&mut self) {
        let Some(phase) = self.phase else { return };
        let elapsed = self.began.elapsed();
        match &self.bar {
            Some(_) => {
                if elapsed >= CALM {
                    self.draw();
                }
            }
            None => {
                if self.last_line.elapsed() >= PLAIN_INTERVAL {
                    self.last_line += self.last_line.elapsed();
                    let (done, total) = self.counts.moved(phase);
                    let rate = match phase {
                        Phase::Push => self.counts.sending.rate(now()),
                        _ => per_second(done, elapsed),
                    };
                    let mut line = self.counts.text(phase);
                    if total > 0 {
                        line += &format!(": {} of {}, {}/s", bytes(done), bytes(total), bytes(rate));
                    }
                    out::talk(format_args!("{line}\n"));
                }
            }
        }
    }
}

impl State {
    /// The line on a terminal; cut where the terminal ends.
    fn draw(&self) {
        let (Some(bar), Some(phase)) = (&self.bar, self.phase) else { return };
        if bar.is_hidden() {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            bar.enable_steady_tick(Duration::from_millis(125));
        }
        let (bytes, total) = self.counts.moved(phase);
        // Once all bytes are there, their rate says nothing any more.
        let template = if bytes >= total {
            "{spinner} {wide_msg} {elapsed}"
        } else if phase == Phase::Push {
            // The bar would take what was sent before this phase for sent in it.
            let rate = self.counts.sending.rate(now());
            let left = (total - bytes).checked_div(rate).map(|left| format!(" {left}s")).unwrap_or_default();
            bar.set_prefix(format!("{}/s{left}", crate::size::human(rate)));
            "{spinner} {wide_msg} {decimal_bytes}/{decimal_total_bytes} {prefix}"
        } else {
            "{spinner} {wide_msg} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}"
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
        bar.set_length(total);
        bar.set_position(bytes);
        bar.set_message(self.counts.text(phase));
    }
}

impl Counts {
    /// Bytes that are done, and all of them.
    fn moved(&self, phase: Phase) -> (u64, u64) {
        match phase {
            Phase::Push => (self.sending.sent, self.sending.all),
            _ => (self.bytes, self.total),
        }
    }

    fn text(&self, phase: Phase) -> String {
        let mut text = phase.title().to_owned();
        if self.files > 0 {
            text += &format!(", {} of {}", self.files_done, counted(self.files, "file"));
        }
        if self.layers > 0 {
            text += &format!(", {} of {}", self.layers_done, counted(self.layers, "layer"));
        }
        if self.sending.all > 0 && phase != Phase::Push {
            text += &format!(", {} of {} pushed", bytes(self.sending.sent), bytes(self.sending.all));
        }
        text
    }
}

impl Sending {
    fn more(&mut self, bytes: u64, now: Instant) {
        self.all += bytes;
        self.look(now);
    }

    fn moved(&mut self, bytes: u64, now: Instant) {
        self.sent += bytes;
        self.look(now);
    }

    fn again(&mut self, bytes: u64, now: Instant) {
        self.sent = self.sent.saturating_sub(bytes);
        self.look(now);
    }

    /// The clock runs while something is left to be sent.
    fn look(&mut self, now: Instant) {
        if self.sent < self.all {
            self.since.get_or_insert(now);
        } else if let Some(since) = self.since.take() {
            self.took += now - since;
        }
    }

    /// Bytes in a second.
    fn rate(&self, now: Instant) -> u64 {
        per_second(self.sent, self.took + self.since.map_or(Duration::ZERO, |since| now - since))
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(0.001)) as u64
}

#[expect(clippy::disallowed_methods, reason = "the display is the one place that shows rates")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_push_is_of_the_time_in_which_it_sent() {
        let start = now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut sending = Sending::default();
        assert_eq!(sending.rate(start), 0);
        // While layers are formed: 100 bytes in two seconds, then nothing is left for a minute.
        sending.more(100, after(1));
        sending.moved(60, after(2));
        assert_eq!(sending.rate(after(2)), 60);
        sending.moved(40, after(3));
        assert_eq!((sending.rate(after(3)), sending.rate(after(63))), (50, 50));
        // The rest, part of it twice.
        sending.more(200, after(63));
        sending.moved(100, after(64));
        sending.again(100, after(64));
        assert_eq!(sending.rate(after(65)), 25);
        sending.moved(200, after(67));
        assert_eq!((sending.sent, sending.all, sending.rate(after(100))), (300, 300, 50));
    }
}

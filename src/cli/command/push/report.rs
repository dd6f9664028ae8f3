//! What became of a push, or would: for a person, and as JSON.

use std::time::Duration;

use serde::Serialize;

use crate::cli::text::{on_one_line, shortened};
use crate::digest::Digest;
use crate::engine::{Outcome, Pushed, PushedBlob};
use crate::size::human as bytes;

/// Characters of a layer's title that are shown.
const TITLE: usize = 60;

/// Blobs of one outcome, and their bytes.
#[derive(Default, Clone, Copy)]
struct Sum {
    count: usize,
    size: u64,
}

impl Sum {
    fn add(&mut self, blob: &PushedBlob) {
        self.count += 1;
        self.size += blob.size;
    }

    /// `2 mounted (1.50 kB)`; `more` is said of the bytes.
    fn text(self, words: &str, more: &str) -> String {
        match self.count {
            0 => format!("0 {words}"),
            count => format!("{count} {words} ({}{more})", bytes(self.size)),
        }
    }
}

/// What a person reads of a push: with `layers`, a line for each that was sent or mounted; then the sum of it. `other` is what
/// the image is called here, where that is none of the names that it has there.
pub fn summary(pushed: &Pushed, dry_run: bool, layers: bool, other: Option<&str>) -> String {
    let mut text = String::new();
    let (mut sent, mut unsure, mut mounted, mut there) =
        (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for blob in &pushed.blobs {
        let (sum, what) = match &blob.outcome {
            Outcome::Sent => (&mut sent, if dry_run { "would send" } else { "sent" }),
            Outcome::MayBeSent => (&mut unsure, "may send"),
            Outcome::Mounted { .. } => (&mut mounted, if dry_run { "would mount" } else { "mounted" }),
            Outcome::There => {
                there.add(blob);
                continue;
            }
        };
        sum.add(blob);
        if layers {
            let title = shortened(&on_one_line(&blob.title), TITLE);
            text += &format!("{what:<11} {:>8}  {title}", bytes(blob.size));
            if let Outcome::Mounted { from } = &blob.outcome {
                text += &format!(" from {}", on_one_line(from));
            }
            text += "\n";
        }
    }
    let names = pushed.references.iter().map(|name| on_one_line(name)).collect::<Vec<_>>().join(", ");
    let names = match other {
        Some(other) => format!("{} as {names}", on_one_line(other)),
        None => names,
    };
    let there = there.text("already there", "");
    let parts = match dry_run {
        true => {
            let mut parts = vec![sent.text("to send", "")];
            if unsure.count > 0 {
                parts.push(unsure.text("that may have to be sent", ""));
            }
            parts.extend([mounted.text("to mount", ", if the registry does"), there]);
            parts
        }
        false => vec![sent.text("sent", &pace(sent.size, pushed.took)), mounted.text("mounted", ""), there],
    };
    let verb = if dry_run { "would push" } else { "pushed" };
    text += &format!("{verb} {names}: {}\n", parts.join(", "));
    text
}

/// ` in 10.8 s, 380 MB/s`
fn pace(sent: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds == 0.0 {
        return String::new();
    }
    let rate = bytes((sent as f64 / seconds).round() as u64);
    match seconds < 1.0 {
        true => format!(" in {} ms, {rate}/s", took.as_millis().max(1)),
        false => format!(" in {seconds:.1} s, {rate}/s"),
    }
}

#[derive(Serialize)]
pub struct Report<'a> {
    /// What the image is called in the store, where it was meant by that.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    references: &'a [String],
    digest: Digest,
    dry_run: bool,
    /// Bytes of blobs that were sent.
    sent: u64,
    /// The time in which they were sent.
    seconds: f64,
    /// Manifests and indexes that were written.
    written: usize,
    blobs: Vec<BlobReport<'a>>,
}

#[derive(Serialize)]
struct BlobReport<'a> {
    digest: Digest,
    size: u64,
    title: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
}

impl<'a> Report<'a> {
    pub fn new(pushed: &'a Pushed, dry_run: bool, image: Option<&'a str>) -> Self {
        let blob = |blob: &'a PushedBlob| {
            let (outcome, from) = match &blob.outcome {
                Outcome::Sent => ("sent", None),
                Outcome::MayBeSent => ("may-be-sent", None),
                Outcome::There => ("there", None),
                Outcome::Mounted { from } => ("mounted", Some(from.as_str())),
            };
            BlobReport { digest: blob.digest, size: blob.size, title: &blob.title, outcome, from }
        };
        Self {
            image,
            references: &pushed.references,
            digest: pushed.digest,
            dry_run,
            sent: pushed.sent(),
            seconds: (pushed.took.as_secs_f64() * 1000.0).round() / 1000.0,
            written: pushed.written,
            blobs: pushed.blobs.iter().map(blob).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(first: Outcome) -> Pushed {
        let blob = |title: &str, outcome| PushedBlob {
            digest: Digest::of(title),
            size: 1500,
            title: title.to_owned(),
            outcome,
        };
        Pushed {
            references: vec!["r.example/a:1".to_owned(), "r.example/a:latest".to_owned()],
            digest: Digest::of("root"),
            blobs: vec![
                blob(&"é".repeat(61), first),
                blob("torch 2.9.1", Outcome::Mounted { from: "b\x1b".to_owned() }),
                blob("six 1.17", Outcome::There),
                blob("idna 3.10", Outcome::There),
            ],
            took: Duration::from_millis(20),
            written: 1,
        }
    }

    #[test]
    fn what_was_done_and_what_would_be() {
        let title = format!("{}…", "é".repeat(59));
        assert_eq!(
            summary(&pushed(Outcome::Sent), false, true, None),
            format!(
                "sent         1.50 kB  {title}\nmounted      1.50 kB  torch 2.9.1 from b\u{fffd}\n\
                 pushed r.example/a:1, r.example/a:latest: 1 sent (1.50 kB in 20 ms, 75.0 kB/s), 1 mounted (1.50 kB), \
                 2 already there (3.00 kB)\n"
            )
        );
        assert_eq!(
            summary(&pushed(Outcome::Sent), true, true, Some("app:1 (60a9aeccdc20)")),
            format!(
                "would send   1.50 kB  {title}\nwould mount  1.50 kB  torch 2.9.1 from b\u{fffd}\n\
                 would push app:1 (60a9aeccdc20) as r.example/a:1, r.example/a:latest: 1 to send (1.50 kB), \
                 1 to mount (1.50 kB, if the registry does), 2 already there (3.00 kB)\n"
            )
        );
        let unsure = summary(&pushed(Outcome::MayBeSent), true, true, None);
        assert!(unsure.starts_with(&format!("may send     1.50 kB  {title}\n")), "{unsure}");
        assert!(
            unsure.contains(": 0 to send, 1 that may have to be sent (1.50 kB), 1 to mount "),
            "{unsure}"
        );
        assert!(summary(&pushed(Outcome::Sent), false, false, None).starts_with("pushed "));
    }

    #[test]
    fn time_and_rate_of_what_was_sent() {
        for (sent, millis, said) in
            [(0, 0, ""), (4_070_000_000, 10_840, " in 10.8 s, 375 MB/s"), (10_000, 61, " in 61 ms, 163 kB/s")]
        {
            assert_eq!(pace(sent, Duration::from_millis(millis)), said);
        }
        assert_eq!(pace(1000, Duration::from_micros(10)), " in 1 ms, 100 MB/s");
    }
}

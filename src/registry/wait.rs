//! Waits between attempts, and who hears of them.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use url::Url;

use crate::http::{HttpError, reason};

/// What is over sooner is over before one has read of it.
const NOTICEABLE: Duration = Duration::from_secs(1);

/// Whom is waited for, and why.
type Notice = Box<dyn Fn(&str, &str) + Send + Sync>;

/// The waits of one registry.
#[derive(Default)]
pub(super) struct Waits {
    notice: OnceLock<Notice>,
    /// Until when the wait lasts that was told last: of those beside it nothing is said.
    told: Mutex<Option<Instant>>,
}

impl Waits {
    /// The first who wants to hear of them does.
    pub fn tell(&self, notice: Notice) {
        let _ = self.notice.set(notice);
    }

    pub async fn rest(&self, wait: Duration, error: &HttpError) {
        if let Some(notice) = self.notice.get()
            && self.is_news(wait, error)
        {
            let (whom, why) = words(error);
            let again = match wait.as_secs_f64().round() {
                ..1.0 => "at once".to_owned(),
                seconds => format!("in {seconds} s"),
            };
            notice(&whom, &format!("{why}, again {again}"));
        }
        sleep(wait).await;
    }

    /// The attempt before the wait may have been what took its time.
    fn is_news(&self, wait: Duration, error: &HttpError) -> bool {
        let slow = matches!(error, HttpError::Stalled { .. } | HttpError::Stuck { .. });
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let news = (slow || wait >= NOTICEABLE) && told.is_none_or(|until| until <= now);
        if news {
            *told = Some(now + wait.max(NOTICEABLE));
        }
        news
    }
}

fn words(error: &HttpError) -> (String, String) {
    let whom = |url: &str| {
        let parsed = Url::parse(url).ok().filter(Url::has_host);
        parsed.map_or_else(|| url.to_owned(), |url| url.authority().to_owned())
    };
    match error {
        HttpError::Status { url, status, .. } => {
            (whom(url), format!("it answered {status}{}", reason(*status)))
        }
        HttpError::Stalled { url, after } => {
            (whom(url), format!("it said nothing, or next to nothing, for {} s", after.as_secs_f32()))
        }
        HttpError::Stuck { url, after, .. } => {
            (whom(url), format!("it took no more for {} s", after.as_secs_f32()))
        }
        HttpError::Connect { url, .. } => (whom(url), "it cannot be connected to".to_owned()),
        HttpError::Request { url, .. } | HttpError::Read { url, .. } => {
            (whom(url), "the connection broke off".to_owned())
        }
        lasting => (String::new(), lasting.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_how_often() {
        let busy = HttpError::Status {
            url: "https://registry.example:5000/v2/a?…".into(),
            status: 503,
            retry_after: None,
        };
        let said = ("registry.example:5000".to_owned(), "it answered 503 (service unavailable)".to_owned());
        assert_eq!(words(&busy), said);
        let waits = Waits::default();
        let [short, long] = [Duration::from_millis(900), Duration::from_secs(100)];
        assert!(!waits.is_news(short, &busy));
        assert!(waits.is_news(long, &busy) && !waits.is_news(long, &busy));
        let silent = HttpError::Stalled { url: "registry.example".into(), after: Duration::from_secs(30) };
        assert_eq!(words(&silent).0, "registry.example");
        let waits = Waits::default();
        assert!(waits.is_news(short, &silent) && !waits.is_news(short, &silent));
    }
}

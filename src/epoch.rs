//! The only time the core knows.

use std::fmt;

/// Seconds since 1970-01-01 UTC that every file and the image config carry, as `SOURCE_DATE_EPOCH` of
/// reproducible-builds.org does; never from the environment, since that would make the image depend on it. By default
/// 1980-01-01T00:00:00Z, the oldest time a zip can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Default for Epoch {
    fn default() -> Self {
        Self(315_532_800)
    }
}

/// RFC 3339 in UTC with whole seconds, as OCI's `created` wants it.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0 / 86_400, self.0 % 86_400);
        // Days to civil date, proleptic Gregorian, with years that begin on 1 March (H. Hinnant's algorithm).
        let z = days + 719_468;
        let era = z / 146_097;
        let day_of_era = z % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Seconds since 1970-01-01 UTC of a date and time in UTC; none for a date that no calendar has. Second 60, a leap
/// second, is the first of the next minute.
pub fn seconds_of_civil(year: u64, month: u64, day: u64, hour: u64, minute: u64, second: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=last).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Civil date to days, the inverse of the above.
    let shifted = if month > 2 { year } else { year - 1 };
    let (era, year_of_era) = (shifted / 400, shifted % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Seconds since 1970 of an IMF-fixdate (`Sun, 06 Nov 1994 08:49:37 GMT`), the only form that servers may send.
pub fn http_date(text: &str) -> Option<u64> {
    let mut words = text.split_once(", ")?.1.split(' ');
    let mut word = || words.next();
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let day = number(word()?)?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let name = word()?;
    let month = months.iter().position(|month| *month == name)? as u64 + 1;
    let year = number(word()?)?;
    let mut time = word()?.split(':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let whole = time.next().is_none() && word() == Some("GMT") && word().is_none();
    whole.then(|| seconds_of_civil(year, month, day, hour, minute, second))?
}

/// The IMF-fixdate some seconds from now, as a server writes it; its day of the week means nothing.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a date by which to come back means nothing without today's")]
pub(crate) fn http_date_in(seconds: u64) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let text = Epoch(since.map_or(0, |since| since.as_secs()) + seconds).to_string();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months[text[5..7].parse::<usize>().expect("a month") - 1];
    format!("Mon, {} {month} {} {} GMT", &text[8..10], &text[..4], &text[11..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_rfc_3339() {
        assert_eq!(Epoch::default().to_string(), "1980-01-01T00:00:00Z");
        assert_eq!(Epoch(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Epoch(1_709_210_096).to_string(), "2024-02-29T12:34:56Z");
        assert_eq!(Epoch(4_107_542_399).to_string(), "2100-02-28T23:59:59Z");
    }

    #[test]
    fn dates_come_back() {
        for day in 0..50_000_u64 {
            let at = day * 86_400 + day;
            let text = Epoch(at).to_string();
            let number = |part: std::ops::Range<usize>| text[part].parse().unwrap();
            let (date, time) = (
                (number(0..4), number(5..7), number(8..10)),
                (number(11..13), number(14..16), number(17..19)),
            );
            assert_eq!(seconds_of_civil(date.0, date.1, date.2, time.0, time.1, time.2), Some(at), "{text}");
        }
    }

    #[test]
    fn what_no_calendar_has_is_no_date() {
        for (year, month, day) in [
            (1969, 12, 31),
            (10_000, 1, 1),
            (2025, 2, 29),
            (2100, 2, 29),
            (2026, 4, 31),
            (2026, 0, 1),
            (2026, 13, 1),
            (2026, 1, 0),
        ] {
            assert_eq!(seconds_of_civil(year, month, day, 0, 0, 0), None, "{year}-{month}-{day}");
        }
        for (hour, minute, second) in [(24, 0, 0), (0, 60, 0), (0, 0, 61), (u64::MAX, 0, 0)] {
            assert_eq!(seconds_of_civil(2026, 1, 1, hour, minute, second), None);
        }
        assert_eq!(seconds_of_civil(2016, 12, 31, 23, 59, 60), Some(1_483_228_800));
    }

    #[test]
    fn dates_of_http_are_read() {
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 12:34:56 GMT", Some(1_709_210_096)),
            ("Fri, 31 Dec 2099 23:59:60 GMT", Some(4_102_444_800)),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("06 Nov 1994", None),
            ("", None),
        ] {
            assert_eq!(http_date(text), seconds, "{text}");
        }
    }
}

//! The only time the core knows.

use std::fmt;

/// Seconds since 1970-01-01 UTC that every file and the image config carry (`SOURCE_DATE_EPOCH` of
/// reproducible-builds.org). By default 1980-01-01T00:00:00Z, the oldest time a zip can say.
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
}

//! Order of Debian versions, `[epoch:]upstream[-revision]` (deb-version(7)).
//!
//! Versions are kept as text everywhere; only their comparison needs the rules.

use std::cmp::Ordering;

/// Whether `version` has the form of a Debian version: an epoch of digits, then a digit first and only allowed
/// characters. Indexes that say otherwise are refused, since these texts end up in file names.
pub fn is_valid(version: &str) -> bool {
    let (epoch, rest) = split_epoch(version);
    epoch.len() < 10
        && epoch.bytes().all(|b| b.is_ascii_digit())
        && !(epoch.is_empty() && version.starts_with(':'))
        && rest.len() < 256
        && rest.starts_with(|c: char| c.is_ascii_digit())
        && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-~:".contains(&b))
}

/// Without epoch and Debian revision: `3.11.2` of `3.11.2-6+deb12u9`.
pub fn upstream(version: &str) -> &str {
    let (_, rest) = split_epoch(version);
    rest.rsplit_once('-').map_or(rest, |(upstream, _)| upstream)
}

/// `a` against `b` as dpkg orders them.
pub fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, a), (epoch_b, b)) = (split_epoch(a), split_epoch(b));
    let revision = |text: &str| text.rfind('-').map_or((text.len(), text.len()), |at| (at, at + 1));
    let ((end_a, from_a), (end_b, from_b)) = (revision(a), revision(b));
    digits(epoch_a, epoch_b)
        .then_with(|| compare_part(&a[..end_a], &b[..end_b]))
        .then_with(|| compare_part(&a[from_a..], &b[from_b..]))
}

fn split_epoch(version: &str) -> (&str, &str) {
    version.split_once(':').unwrap_or(("", version))
}

/// Runs of non-digits and of digits by turns; `~` sorts before the end, letters before other characters.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    fn weight(byte: Option<u8>) -> i16 {
        match byte {
            Some(b'~') => -1,
            None => 0,
            Some(b) if b.is_ascii_digit() => 0,
            Some(b) if b.is_ascii_alphabetic() => i16::from(b),
            Some(b) => i16::from(b) + 256,
        }
    }
    fn take<'a>(text: &mut &'a str, digits: bool) -> &'a str {
        let end = text.bytes().position(|b| b.is_ascii_digit() != digits).unwrap_or(text.len());
        let (head, tail) = text.split_at(end);
        *text = tail;
        head
    }
    while !a.is_empty() || !b.is_empty() {
        let (word_a, word_b) = (take(&mut a, false), take(&mut b, false));
        for at in 0..word_a.len().max(word_b.len()) {
            let order =
                weight(word_a.as_bytes().get(at).copied()).cmp(&weight(word_b.as_bytes().get(at).copied()));
            if order.is_ne() {
                return order;
            }
        }
        let order = digits(take(&mut a, true), take(&mut b, true));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Numbers of any length; no digits count as zero.
fn digits(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_dpkgs() {
        // Each pair was put to `dpkg --compare-versions A lt B`.
        for (smaller, larger) in [
            ("1.0", "1.1"),
            ("1.9", "1.10"),
            ("1.0~rc1", "1.0"),
            ("1.0~~", "1.0~"),
            ("1.0~~a", "1.0~"),
            ("1.0", "1.0-1"),
            ("1.0-1", "1.0-1+b1"),
            ("1.0-1~~x+1", "1.0-1"),
            ("1.0a", "1.0+"),
            ("9", "1:0"),
            ("2:1", "10:0"),
            ("3.11.2-6+deb12u6", "3.11.2-6+deb12u10"),
            ("3.0.17-1~deb12u2", "3.0.17-1"),
            ("1.2.3", "1.2.3a"),
            ("1.2-3-4", "1.2-4-1"),
        ] {
            let wanted = Ordering::Less;
            assert_eq!(compare(smaller, larger), wanted, "{smaller} {larger}");
            assert_eq!(compare(larger, smaller), wanted.reverse(), "{larger} {smaller}");
        }
        for (a, b) in [("1.0", "0:1.0"), ("1.01", "1.1"), ("1.0", "1.0-0"), ("1.", "1.0")] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} {b}");
        }
    }

    #[test]
    fn form_is_checked() {
        for good in ["1", "1:2.3-4", "2.36-9+deb12u13", "6.4-4", "0.1~20220101"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a1", ":1", "x:1", "1/2", "1 2", "1:", "../1", "1\n"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn upstream_part() {
        assert_eq!(upstream("3.11.2-6+deb12u9"), "3.11.2");
        assert_eq!(upstream("1:2.3-beta-4"), "2.3-beta");
        assert_eq!(upstream("7"), "7");
    }
}

//! Numbers of bytes as people read them.

/// Three digits in powers of 1000, cut and not rounded, so that a sum never looks larger than it is: `4.11 GB`.
pub fn human(bytes: u64) -> String {
    let (mut value, mut rest, mut unit) = (bytes, 0, "B");
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 1000 {
            break;
        }
        (value, rest, unit) = (value / 1000, value % 1000, next);
    }
    match (unit, value) {
        ("B", _) | (_, 100..) => format!("{value} {unit}"),
        (_, 10..) => format!("{value}.{} {unit}", rest / 100),
        _ => format!("{value}.{:02} {unit}", rest / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_have_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (999_999, "999 kB"),
            (15_949_000, "15.9 MB"),
            (4_107_415_520, "4.10 GB"),
        ] {
            assert_eq!(human(count), text);
        }
    }
}

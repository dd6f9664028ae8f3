//! Numbers as people read them: bytes, and things that are counted.

use std::fmt::Display;

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

/// `1 layer`, `2 layers`.
pub fn counted<N: Display + PartialEq + From<u8>>(number: N, one: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {one}{plural}")
}

/// `512m`, `2GiB`, `100`: powers of 1024, as docker and systemd read them; `kB`, `MB` and `GB` are powers of 1000.
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim_start() {
        "" | "b" | "B" => 1,
        "k" | "K" | "kb" | "Ki" | "KiB" => 1 << 10,
        "m" | "M" | "mb" | "Mi" | "MiB" => 1 << 20,
        "g" | "G" | "gb" | "Gi" | "GiB" => 1 << 30,
        "t" | "T" | "tb" | "Ti" | "TiB" => 1 << 40,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(unit),
        Some(_) => {
            let bytes = number.parse::<f64>().ok()? * unit as f64;
            (bytes.is_finite() && bytes < 1e18).then_some(bytes as u64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("100", 100),
            ("64m", 64 << 20),
            ("1.5g", 3 << 29),
            ("2GiB", 2 << 30),
            ("2 GB", 2_000_000_000),
            ("1k", 1024),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1x", "99999999999t", "1.2.3"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0_u64, 1, 2].map(|number| counted(number, "file")), ["0 files", "1 file", "2 files"]);
    }

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

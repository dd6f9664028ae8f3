//! Text that may be shown.

/// `text` without control characters, so that no name from outside can steer the terminal. Line feeds stay.
pub fn printable(text: &str) -> String {
    let safe = |c: char| {
        c == '\n'
            || !(c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c))
    };
    text.chars().map(|c| if safe(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(printable("a\x1b[31mb\u{202e}c\nd"), "a\u{fffd}[31mb\u{fffd}c\nd");
    }
}

//! Text that may be shown: names, files, URLs and words of servers come from strangers, and a terminal obeys some
//! characters instead of showing them.

use std::borrow::Cow;

/// Whether `c` steers what shows it, or hides in it: control characters (C0, DEL, C1), and those without a picture that
/// change how others are shown (joiners, direction, tags, byte order mark).
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// `text` with every hostile character replaced, but for line feeds. All that is printed passes through here, see
/// [`super::out`].
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { visible(c) }).collect()
}

/// [`printable`] for what stands on a line with other things: a name with a line feed must not begin a line of its own.
pub fn on_one_line(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// At most `most` characters, the last of them an ellipsis where something was cut.
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// `text` with each of its lines [`shortened`].
pub fn lines_shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let line = |line: &str| match line.strip_suffix('\n') {
        Some(line) => shortened(line, most) + "\n",
        None => shortened(line, most),
    };
    Cow::Owned(text.split_inclusive('\n').map(line).collect())
}

fn visible(c: char) -> char {
    match c {
        '\n' | '\t' => ' ',
        c if is_hostile(c) => '\u{fffd}',
        c => c,
    }
}

/// A JSON text with every hostile character written as `\uXXXX`, which says the same. Outside of strings JSON has none,
/// and line feeds stand outside only.
pub fn escaped_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_hostile(c) {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text += &format!("\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\x1b[31mb\u{202e}c\nd\te\u{9b}f\x7fg\u{e0041}";

    #[test]
    fn what_a_terminal_obeys_is_replaced() {
        assert_eq!(printable(HOSTILE), "a\u{fffd}[31mb\u{fffd}c\nd e\u{fffd}f\u{fffd}g\u{fffd}");
        assert_eq!(on_one_line(HOSTILE), printable(HOSTILE).replace('\n', " "));
        assert_eq!(printable("é 日本 😀"), "é 日本 😀");
    }

    #[test]
    fn long_lines_are_shortened_and_others_are_not() {
        for text in ["", "ab\ncde\n", "abc\n\n\nab", "日本\n日本"] {
            assert_eq!(lines_shortened(text, 3), text);
        }
        assert_eq!(lines_shortened("abcd\nabc\n日本日本", 3), "ab…\nabc\n日本…");
    }

    #[test]
    fn json_says_the_same_in_other_letters() {
        let json = serde_json::to_string_pretty(&[HOSTILE]).unwrap();
        let escaped = escaped_json(&json);
        assert!(!escaped.chars().any(|c| c != '\n' && is_hostile(c)), "{escaped}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&escaped).unwrap(), [HOSTILE]);
        assert!(escaped.contains("\\udb40\\udc41"), "{escaped}");
    }
}

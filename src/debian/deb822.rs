//! Paragraphs of `Field: value` lines (deb822(5)), as control files, `Release`, `Packages` and apt's `*.sources` are.
//!
//! One paragraph is a [`Paragraph`]: fields in order of appearance, found without regard to case. Lines that begin
//! with a space or a tab continue the field above; blank lines part paragraphs; lines that begin with `#` are
//! comments where [`Comments::Allowed`]. A field named twice in one paragraph is refused, since readers differ on
//! which one counts.

/// Whether `#` lines are comments: yes in what people write, no in what archives publish.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Comments {
    Allowed,
    Refused,
}

/// The largest text accepted, in bytes; an InRelease has 150 kB.
pub const TEXT_MAX: usize = 8 << 20;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Deb822Error {
    #[error("text of {0} bytes is larger than {TEXT_MAX}")]
    TooLarge(usize),
    #[error("line {line}: `{text}` is neither `Field: value` nor a continuation")]
    Line { line: usize, text: String },
    #[error("line {line}: field `{field}` appears twice")]
    Twice { line: usize, field: String },
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    #[error("expected one paragraph, found {0}")]
    Count(usize),
}

/// Fields of one paragraph. Values keep their inner line breaks, without the space that led each line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paragraph(Vec<(String, String)>);

impl Paragraph {
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(field)).map(|(_, value)| value.as_str())
    }

    pub fn require(&self, field: &'static str) -> Result<&str, Deb822Error> {
        self.get(field).filter(|value| !value.is_empty()).ok_or(Deb822Error::Missing(field))
    }
}

/// All paragraphs of `text`.
pub fn parse(text: &str, comments: Comments) -> Result<Vec<Paragraph>, Deb822Error> {
    if text.len() > TEXT_MAX {
        return Err(Deb822Error::TooLarge(text.len()));
    }
    let mut paragraphs = Vec::new();
    let mut current = Paragraph::default();
    for (at, line) in text.lines().enumerate() {
        let refuse = || Deb822Error::Line { line: at + 1, text: line.chars().take(60).collect() };
        if line.trim().is_empty() {
            if !current.0.is_empty() {
                paragraphs.push(std::mem::take(&mut current));
            }
        } else if line.starts_with('#') && comments == Comments::Allowed {
        } else if let Some(rest) = line.strip_prefix([' ', '\t']) {
            let (_, value) = current.0.last_mut().ok_or_else(refuse)?;
            value.push('\n');
            value.push_str(rest.trim_end());
        } else {
            let (name, value) = line.split_once(':').ok_or_else(refuse)?;
            if name.is_empty() || name.starts_with('-') || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(refuse());
            }
            if current.get(name).is_some() {
                return Err(Deb822Error::Twice { line: at + 1, field: name.to_owned() });
            }
            current.0.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    if !current.0.is_empty() {
        paragraphs.push(current);
    }
    Ok(paragraphs)
}

/// The only paragraph of `text`.
pub fn parse_one(text: &str) -> Result<Paragraph, Deb822Error> {
    let mut paragraphs = parse(text, Comments::Refused)?;
    match (paragraphs.pop(), paragraphs.len()) {
        (Some(only), 0) => Ok(only),
        (last, others) => Err(Deb822Error::Count(others + usize::from(last.is_some()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_continue_and_paragraphs_part() {
        let text = "Package: a\nDescription: one\n two\n .\n\n# note\nPackage: b\n";
        let parsed = parse(text, Comments::Allowed).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].get("description"), Some("one\ntwo\n."));
        assert_eq!(parsed[1].get("Package"), Some("b"));
        assert_eq!(parsed[1].require("Version"), Err(Deb822Error::Missing("Version")));
    }

    #[test]
    fn odd_lines_are_refused() {
        for (text, wanted) in [
            (" lone", "line 1: ` lone` is neither `Field: value` nor a continuation"),
            ("A: 1\nb", "line 2: `b` is neither `Field: value` nor a continuation"),
            ("A: 1\n# x", "line 2: `# x` is neither `Field: value` nor a continuation"),
            ("-A: 1", "line 1: `-A: 1` is neither `Field: value` nor a continuation"),
            ("A: 1\na: 2", "line 2: field `a` appears twice"),
        ] {
            assert_eq!(parse(text, Comments::Refused).unwrap_err().to_string(), wanted);
        }
        assert_eq!(parse_one("A: 1\n\nB: 2").unwrap_err(), Deb822Error::Count(2));
        assert_eq!(parse_one("").unwrap_err(), Deb822Error::Count(0));
    }
}

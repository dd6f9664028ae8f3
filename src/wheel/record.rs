//! `RECORD`: the CSV table of a distribution's files with SHA-256 and size (PyPA "Recording installed projects").

use std::collections::BTreeMap;

use super::waivers::Waivers;
use crate::digest::Digest;
use crate::spec::model::WheelRule;

/// The rows by path as written. No hash and no size for `RECORD` itself.
pub type Rows = BTreeMap<String, Row>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub sha256: Option<Digest>,
    pub size: Option<u64>,
}

impl Row {
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: Some(Digest::of(bytes)), size: Some(bytes.len() as u64) }
    }
}

/// Why a `RECORD` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("RECORD has more than {0} rows, one for each member and 10,000 more")]
    Rows(usize),
    #[error("line {0} of RECORD is not `path,hash,size`")]
    Shape(usize),
    #[error("RECORD gives {path:?} the hash {hash:?}: only `sha256=` is accepted")]
    Hash { path: String, hash: String },
    #[error("RECORD lists {0:?} twice with different hashes")]
    Twice(String),
}

/// Rows that a `RECORD` may have beside those of the archive's members: directories, which some tools list.
const ROWS_BESIDE: usize = 10_000;

/// Reads the `RECORD` of a wheel that has so many members.
pub fn parse(text: &str, members: usize, waivers: &mut Waivers) -> Result<Rows, RecordError> {
    let most = members + ROWS_BESIDE;
    let mut rows = Rows::new();
    for (line, fields) in csv(text) {
        if line > most {
            return Err(RecordError::Rows(most));
        }
        let fields = fields.ok_or(RecordError::Shape(line))?;
        let (path, hash, size) = match fields.as_slice() {
            [path, hash, size] => (path, hash.as_str(), size.as_str()),
            [path] if path.is_empty() => continue,
            _ => return Err(RecordError::Shape(line)),
        };
        // `./x` and `/x` are written by some tools and mean `x`.
        let mut path = path.as_str();
        while let Some(rest) = path.strip_prefix('/').or_else(|| path.strip_prefix("./")) {
            path = rest;
        }
        let path = path.to_owned();
        let sha256 = match hash {
            "" => None,
            _ => match sha256(hash) {
                Some(sha256) => Some(sha256),
                None if waivers.take(WheelRule::RecordHash) => None,
                None => return Err(RecordError::Hash { path, hash: hash.into() }),
            },
        };
        let size = match size {
            "" => None,
            _ => Some(size.parse().map_err(|_| RecordError::Shape(line))?),
        };
        let row = Row { sha256, size };
        if rows.insert(path.clone(), row).is_some_and(|before| before != row) {
            return Err(RecordError::Twice(path));
        }
    }
    Ok(rows)
}

/// Writes a `RECORD`: sorted by path, LF, quoted only where CSV needs it.
pub fn write(rows: &Rows) -> String {
    let mut text = String::new();
    for (path, row) in rows {
        // A first byte order mark would be taken for the text's own.
        if path.contains([',', '"', '\n', '\r']) || path.starts_with('\u{feff}') {
            text.push('"');
            text.push_str(&path.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(path);
        }
        text.push(',');
        if let Some(sha256) = row.sha256 {
            text.push_str("sha256=");
            text.push_str(&base64url(sha256.as_bytes()));
        }
        text.push(',');
        if let Some(size) = row.size {
            text.push_str(&size.to_string());
        }
        text.push('\n');
    }
    text
}

/// Path, hash and size.
const FIELDS: usize = 3;

/// Rows of a CSV text with their line numbers; `None` for a row whose quotes do not match or that has too many fields.
fn csv(text: &str) -> impl Iterator<Item = (usize, Option<Vec<String>>)> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        line += 1;
        let mut fields = Vec::new();
        loop {
            let Some((field, after)) = csv_field(rest) else {
                rest = "";
                return Some((line, None));
            };
            if fields.len() == FIELDS {
                rest = "";
                return Some((line, None));
            }
            fields.push(field);
            rest = after;
            if let Some(after) = rest.strip_prefix(',') {
                rest = after;
                continue;
            }
            rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix(['\n', '\r'])).unwrap_or(rest);
            return Some((line, Some(fields)));
        }
    })
}

/// One field and what follows it, which begins with `,`, a line break or nothing.
fn csv_field(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([',', '\n', '\r']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut field = String::new();
    loop {
        let quote = rest.find('"')?;
        field.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if rest.is_empty() || rest.starts_with([',', '\n', '\r']) => return Some((field, rest)),
            None => return None,
        }
    }
}

/// `sha256=` and 43 characters of URL-safe base64, perhaps with its `=`.
fn sha256(hash: &str) -> Option<Digest> {
    let text = hash.strip_prefix("sha256=")?.trim_end_matches('=');
    let mut bytes = [0_u8; 32];
    let (mut bits, mut count, mut at) = (0_u32, 0, 0);
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            *bytes.get_mut(at)? = (bits >> count) as u8;
            bits &= (1 << count) - 1;
            at += 1;
        }
    }
    (at == 32 && bits == 0 && text.len() == 43).then(|| Digest::from_bytes(bytes))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for sextet in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * sextet) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Rows, RecordError> {
        super::parse(text, 3, &mut Waivers::default())
    }

    /// Rows are counted before they are kept.
    #[test]
    fn rows_are_bounded_by_the_members() {
        let rows = |count: usize| (0..count).fold(String::new(), |text, n| text + &format!("d{n}/,,\n"));
        assert_eq!(parse(&rows(10_003)).unwrap().len(), 10_003);
        assert_eq!(parse(&rows(10_004)), Err(RecordError::Rows(10_003)));
        assert_eq!(parse(&"\n".repeat(10_004)), Err(RecordError::Rows(10_003)));
    }

    #[test]
    fn reads_what_it_writes() {
        let mut rows = Rows::new();
        for name in ["a,b.py", "quo\"te", "plain", "../../../bin/x", "ünïcode.py", "line\nbreak"] {
            rows.insert(name.into(), Row::of(name.as_bytes()));
        }
        rows.insert("x-1.dist-info/RECORD".into(), Row { sha256: None, size: None });
        let text = write(&rows);
        assert_eq!(parse(&text).unwrap(), rows);
        assert!(text.contains("\"a,b.py\",sha256="), "{text}");
    }

    /// Found by fuzzing: both texts were read as something else once written.
    #[test]
    fn odd_beginnings_of_paths_are_read_once() {
        for (text, path) in [(".//./a,,\n", "a"), ("\u{feff}\u{feff}a,,\n", "\u{feff}a")] {
            let rows = parse(text).unwrap();
            assert_eq!(rows.keys().collect::<Vec<_>>(), [path]);
            assert_eq!(parse(&write(&rows)).unwrap(), rows);
        }
    }

    #[test]
    fn hashes_are_as_pypa_writes_them() {
        let text = "empty,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\r\n/lead/x.py,,\r\n";
        let rows = parse(text).unwrap();
        assert_eq!(rows["empty"], Row::of(b""));
        assert_eq!(rows["lead/x.py"], Row { sha256: None, size: None });
        assert!(write(&rows).starts_with("empty,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\nlead"));
    }

    #[test]
    fn refusals() {
        let good = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
        for (text, message) in [
            ("a,,,", "line 1 of RECORD is not `path,hash,size`"),
            ("a,b", "line 1 of RECORD is not `path,hash,size`"),
            ("a,,\n\"b,,\n", "line 2 of RECORD is not `path,hash,size`"),
            ("\"a\"b,,\n", "line 1 of RECORD is not `path,hash,size`"),
            ("a,,x", "line 1 of RECORD is not `path,hash,size`"),
            ("a,md5=x,1", "RECORD gives \"a\" the hash \"md5=x\": only `sha256=` is accepted"),
            (&format!("a,{good}V,0"), "only `sha256=` is accepted"),
            (&format!("a,{},0", good.replace("FU", "FV")), "only `sha256=` is accepted"),
            (&format!("a,{good},0\na,,0"), "RECORD lists \"a\" twice with different hashes"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }
}

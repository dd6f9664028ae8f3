//! The two e-mail-like files of a wheel's `.dist-info`: `METADATA` (what it is) and `WHEEL` (how it is packed).

/// `METADATA`'s first headers; the rest is for people and resolvers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    pub name: Option<String>,
    pub version: Option<String>,
}

impl Metadata {
    pub fn parse(text: &str) -> Self {
        Self { name: header(text, "Name"), version: header(text, "Version") }
    }
}

/// `WHEEL`'s headers that an installer obeys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelFile {
    /// `Wheel-Version`'s major number; only 1 is known.
    pub major: Option<u32>,
    /// `Root-Is-Purelib`.
    pub pure: bool,
    /// `Build`, empty when there is none.
    pub build: String,
    /// Each `Tag`.
    pub tags: Vec<String>,
}

impl WheelFile {
    pub fn parse(text: &str) -> Self {
        let version = header(text, "Wheel-Version");
        Self {
            major: version.and_then(|version| version.split('.').next()?.parse().ok()),
            pure: header(text, "Root-Is-Purelib").is_some_and(|value| value.eq_ignore_ascii_case("true")),
            build: header(text, "Build").unwrap_or_default(),
            tags: headers(text, "Tag").filter(|value| !value.is_empty()).collect(),
        }
    }
}

/// The first value of a header, up to the first empty line; names are compared without case.
fn header(text: &str, name: &str) -> Option<String> {
    headers(text, name).next().filter(|value| !value.is_empty())
}

fn headers<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().take_while(|line| !line.trim().is_empty()).filter_map(move |line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_end_at_the_body() {
        let metadata = Metadata::parse("Metadata-Version: 2.1\r\nname: A_b\r\n\r\nVersion: 9\r\n");
        assert_eq!(metadata, Metadata { name: Some("A_b".into()), version: None });
        // mkl_fft once had two; the first counts, as in pip.
        let wheel = WheelFile::parse("Wheel-Version: 1.0\nWheel-Version: 2.0\nRoot-Is-Purelib: True\n");
        assert_eq!(wheel, WheelFile { major: Some(1), pure: true, build: String::new(), tags: Vec::new() });
        assert_eq!(WheelFile::parse("Wheel-Version: x").major, None);
    }
}

//! apt's source files, one-line (`*.list`) and deb822 (`*.sources`), as far as they tell where Debian is mirrored.
//!
//! Only entries count whose component `main` of a Debian suite is served at a path that ends in `debian` or
//! `debian-security`: other vendors' repositories use Debian's code names too. Options, keys and architectures are
//! not read: what a mirror serves is checked against Debian's keys anyway, and a wrong guess costs a request.

use super::deb822::{self, Comments};
use super::release::Archive;

/// Code names and their aliases that mark an entry as Debian's.
const CODENAMES: [&str; 9] =
    ["bookworm", "trixie", "forky", "sid", "bullseye", "stable", "oldstable", "testing", "unstable"];

/// Base URLs in a file called `name` with content `text`, in order, as written. Files of other names yield nothing,
/// nor does an entry that cannot be read: the host's configuration is a hint, not an input.
pub fn parse(name: &str, text: &str) -> Vec<(Archive, String)> {
    if name.ends_with(".list") {
        text.lines().flat_map(one_line).collect()
    } else if name.ends_with(".sources") {
        deb822::parse(text, Comments::Allowed).unwrap_or_default().iter().flat_map(paragraph).collect()
    } else {
        Vec::new()
    }
}

fn one_line(line: &str) -> Option<(Archive, String)> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '[']))?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let (url, suite) = (words.next()?, words.next()?);
    words.any(|component| component == "main").then(|| entry(url, suite)).flatten()
}

fn paragraph(fields: &deb822::Paragraph) -> Vec<(Archive, String)> {
    let words = |field| fields.get(field).unwrap_or_default().split_whitespace();
    let enabled = !fields.get("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    if !enabled
        || !words("Types").any(|word| word == "deb")
        || !words("Components").any(|word| word == "main")
    {
        return Vec::new();
    }
    let mut found = Vec::new();
    for url in words("URIs") {
        for one in words("Suites").filter_map(|suite| entry(url, suite)) {
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    found
}

fn entry(url: &str, suite: &str) -> Option<(Archive, String)> {
    let codename = suite.split(['-', '/']).next()?;
    if !CODENAMES.contains(&codename) || !(url.starts_with("http://") || url.starts_with("https://")) {
        return None;
    }
    let last = url.trim_end_matches('/').rsplit('/').next()?;
    Some((Archive::from_name(last)?, url.trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let list = "# deb http://old.example/debian bookworm main\n\
            deb [arch=amd64 signed-by=/x.gpg] http://a.example/debian/ bookworm main contrib # note\n\
            deb-src http://a.example/debian bookworm main\n\
            deb http://b.example/debian-security bookworm-security main\n\
            deb https://c.example/linux/debian bookworm stable\n\
            deb https://d.example/pgdg bookworm-pgdg main\n\
            deb cdrom:[Debian]/ bookworm main\n";
        assert_eq!(
            parse("sources.list", list),
            [
                (Archive::Debian, "http://a.example/debian".to_owned()),
                (Archive::Security, "http://b.example/debian-security".to_owned())
            ]
        );
        let sources = "Types: deb deb-src\nURIs: http://a.example/debian\n https://b.example/debian\n\
            Suites: trixie trixie-updates\nComponents: main\n\n\
            Enabled: no\nTypes: deb\nURIs: http://c.example/debian\nSuites: trixie\nComponents: main\n\n\
            Types: deb\nURIs: http://a.example/node\nSuites: nodistro\nComponents: main\n";
        assert_eq!(
            parse("debian.sources", sources),
            [
                (Archive::Debian, "http://a.example/debian".to_owned()),
                (Archive::Debian, "https://b.example/debian".to_owned())
            ]
        );
        assert!(parse("debian.sources.save", sources).is_empty());
    }
}

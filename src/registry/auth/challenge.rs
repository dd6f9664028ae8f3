//! `WWW-Authenticate` taken apart (RFC 9110, 11.6.1), whoever wrote it.

/// What one challenge asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Lower case.
    pub scheme: String,
    /// Names in lower case; the first of a name holds.
    parameters: Vec<(String, String)>,
}

/// Bytes of the header that are read.
const LONGEST: usize = 16 << 10;
/// Challenges of it.
const MOST: usize = 16;

impl Challenge {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The challenges of one header, as far as it can be understood.
///
/// A comma separates challenges as well as parameters: a token is a parameter if `=` and a value follow, and the next scheme
/// otherwise. What is neither (a `token68`) comes out as a scheme that nobody knows, which does no harm.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut text = Text(header.get(..LONGEST.min(header.len())).unwrap_or_default());
    loop {
        text.skip(|c| c.is_ascii_whitespace() || c == ',');
        let name = text.token();
        if name.is_empty() {
            // Nothing that a list could begin with: one character is passed over, so that this ends.
            match text.next() {
                Some(_) => continue,
                None => return challenges,
            }
        }
        let name = name.to_ascii_lowercase();
        match text.value() {
            Some(value) => {
                if let Some(challenge) = challenges.last_mut()
                    && challenge.parameter(&name).is_none()
                {
                    challenge.parameters.push((name, value));
                }
            }
            None if challenges.len() == MOST => return challenges,
            None => challenges.push(Challenge { scheme: name, parameters: Vec::new() }),
        }
    }
}

/// What is left to be read.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.0.chars();
        let next = chars.next();
        self.0 = chars.as_str();
        next
    }

    fn skip(&mut self, unwanted: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(unwanted);
    }

    fn token(&mut self) -> &'a str {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token
    }

    /// What follows `=`, if that is here.
    fn value(&mut self) -> Option<String> {
        let rest = self.0.trim_start_matches([' ', '\t']).strip_prefix('=')?;
        let mut value = Text(rest.trim_start_matches([' ', '\t']));
        let found = match value.0.strip_prefix('"') {
            Some(rest) => {
                value.0 = rest;
                value.quoted()
            }
            None => {
                // Realms are URLs, which some write without quotes.
                let end = value.0.find([',', ' ', '\t']).unwrap_or(value.0.len());
                let (bare, rest) = value.0.split_at(end);
                value.0 = rest;
                bare.to_owned()
            }
        };
        self.0 = value.0;
        Some(found)
    }

    /// Up to the closing quote, or to the end if there is none.
    fn quoted(&mut self) -> String {
        let mut text = String::new();
        while let Some(c) = self.next() {
            match c {
                '"' => break,
                '\\' => text.extend(self.next()),
                c => text.push(c),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(header: &str) -> String {
        let one = |challenge: &Challenge| {
            let parameters: Vec<_> = challenge.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{}[{}]", challenge.scheme, parameters.join("|"))
        };
        parse(header).iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn challenges() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://a.example/token",service="a.example",scope="repository:x:pull,push""#,
                "bearer[realm=https://a.example/token|service=a.example|scope=repository:x:pull,push]",
            ),
            (r#"Basic realm="a \"b\" \\ c", charset=UTF-8"#, r#"basic[realm=a "b" \ c|charset=UTF-8]"#),
            (r#"Basic realm="x", Bearer realm="y" , service=z"#, "basic[realm=x] bearer[realm=y|service=z]"),
            ("Negotiate, Basic realm=x", "negotiate[] basic[realm=x]"),
            ("Negotiate abc==, Basic realm = x", "negotiate[abc==] basic[realm=x]"),
            (
                "bearer realm=https://a.example/t?x=1,service=b",
                "bearer[realm=https://a.example/t?x=1|service=b]",
            ),
            (r#"Bearer realm="a",realm="b""#, "bearer[realm=a]"),
            (r#"realm="a", Basic"#, "basic[]"),
            (r#"Basic realm="never closed, Bearer"#, "basic[realm=never closed, Bearer]"),
            (r#"Basic realm="\"#, "basic[realm=]"),
            ("", ""),
            (",;=\"", ""),
            ("Basic", "basic[]"),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }

    #[test]
    fn much_is_not_read() {
        assert_eq!(parse(&"a,".repeat(1 << 20)).len(), MOST);
        assert_eq!(
            parse(&format!("Basic realm=\"{}\"", "x".repeat(1 << 20)))[0].parameters[0].1.len(),
            LONGEST - 13
        );
    }

    proptest! {
        #[test]
        fn anything_ends(header in "[ -~é]{0,200}") {
            parse(&header);
        }

        #[test]
        fn quoted_values_come_back(value in "[ -~]{0,60}") {
            let quoted = value.replace('\\', r"\\").replace('"', "\\\"");
            let challenges = parse(&format!("Bearer a=b, realm=\"{quoted}\", Basic"));
            prop_assert_eq!(challenges[0].parameter("realm"), Some(value.as_str()));
            prop_assert_eq!(challenges.len(), 2);
        }
    }
}

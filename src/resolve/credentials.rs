//! Which user name and password a URL gets.
//!
//! Sources, the first that knows the index wins: the environment (`MLBUILD_INDEX_<NAME>_USERNAME` and `_PASSWORD`, then
//! uv's `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD`, where `<NAME>` is the index's name in upper case with `_` for
//! everything that is no letter or digit), the index's URL, `$NETRC` or `~/.netrc`.
//!
//! Credentials of an index go to its own origin (scheme, host and port) only; where two indexes share one, to the one
//! whose path is nearest. An entry of a netrc file goes to its host, over `https` or to the origin of an index. A netrc
//! file's `default` entry is not used: it would reach every host.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::spec::model::Index;

/// User name and password for HTTP's Basic scheme. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(****)")
    }
}

impl Credential {
    /// The name and the password inside a URL.
    pub fn of_url(url: &Url) -> Option<Self> {
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        (!url.username().is_empty() || url.password().is_some()).then(|| Self {
            username: decode(url.username()),
            password: url.password().map(decode).unwrap_or_default(),
        })
    }
}

/// `url` without user name and password, as it may be shown and stored. A text that is no URL comes back as it is,
/// unless it has something before an `@` that might be a secret.
pub fn without_credentials(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if parsed.has_host() => {
            if parsed.username().is_empty() && parsed.password().is_none() {
                return url.to_owned();
            }
            strip(&mut parsed);
            parsed.into()
        }
        _ => match url.rsplit_once('@') {
            Some((_, rest)) => rest.to_owned(),
            None => url.to_owned(),
        },
    }
}

/// Takes user name and password out of `url`.
pub(super) fn strip(url: &mut Url) {
    // Both fail only for URLs that cannot have either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// Parameters of a query that sign a URL or are a key, in lower case: those of S3, Google's and Azure's stores and
/// CloudFront, and what package indexes call theirs.
const SECRET_PARAMETERS: [&str; 10] = [
    "access_token",
    "api_key",
    "auth_token",
    "private_token",
    "sig",
    "signature",
    "token",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-signature",
];

/// Refuses a wheel's URL whose query has a secret: the lock is to be shared, and a signature does not last.
pub(super) fn refuse_signed(wheel: &str, url: &Url) -> Result<(), String> {
    let secret = url
        .query_pairs()
        .map(|(name, _)| name.into_owned())
        .find(|name| SECRET_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()));
    match secret {
        None => Ok(()),
        Some(parameter) => Err(format!(
            "the URL of `{wheel}` carries a credential (`{parameter}`), which would stand in the lock: use an index \
             that takes a user name and password"
        )),
    }
}

/// Where credentials may be found beside the indexes' URLs.
#[derive(Clone, Default)]
pub struct Sources {
    /// Variables named `MLBUILD_INDEX_*` and `UV_INDEX_*`.
    pub variables: BTreeMap<String, String>,
    /// Text of the netrc file.
    pub netrc: Option<String>,
}

impl Sources {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads these variables")]
    pub fn from_environment() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("MLBUILD_INDEX_") || name.starts_with("UV_INDEX_"))
            .collect();
        let path = std::env::var_os("NETRC")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".netrc")));
        let netrc = path.and_then(|path| std::fs::read_to_string(path).ok());
        Self { variables, netrc }
    }
}

/// All credentials of one run.
#[derive(Clone, Default)]
pub struct Credentials {
    indexes: Vec<(Url, Option<Credential>)>,
    netrc: Vec<(String, Credential)>,
}

impl Credentials {
    pub fn of(indexes: &[Index], sources: &Sources) -> Self {
        let indexes = indexes
            .iter()
            .filter_map(|index| {
                let mut url = Url::parse(&index.url).ok()?;
                let credential = index
                    .name
                    .as_deref()
                    .and_then(|name| from_variables(name, &sources.variables))
                    .or_else(|| Credential::of_url(&url));
                strip(&mut url);
                Some((url, credential))
            })
            .collect();
        Self { indexes, netrc: sources.netrc.as_deref().map(parse_netrc).unwrap_or_default() }
    }

    pub fn for_url(&self, url: &Url) -> Option<&Credential> {
        let of_origin = || self.indexes.iter().filter(|(index, _)| index.origin() == url.origin());
        let nearest = of_origin()
            .filter_map(|(index, credential)| Some((common_segments(index, url), credential.as_ref()?)))
            // The first of equals: `max_by_key` would take the last.
            .fold(None, |best: Option<(usize, &Credential)>, candidate| match best {
                Some(best) if best.0 >= candidate.0 => Some(best),
                _ => Some(candidate),
            })
            .map(|(_, credential)| credential);
        nearest.or_else(|| {
            if url.scheme() != "https" && of_origin().next().is_none() {
                return None;
            }
            let host = url.host_str()?;
            self.netrc.iter().find(|(machine, _)| machine == host).map(|(_, credential)| credential)
        })
    }
}

fn common_segments(a: &Url, b: &Url) -> usize {
    let segments = |url: &Url| url.path().split('/').map(str::to_owned).collect::<Vec<_>>();
    segments(a).iter().zip(&segments(b)).take_while(|(a, b)| a == b).count()
}

fn from_variables(name: &str, variables: &BTreeMap<String, String>) -> Option<Credential> {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    ["MLBUILD", "UV"].into_iter().find_map(|tool| {
        let get = |part: &str| variables.get(&format!("{tool}_INDEX_{name}_{part}")).cloned();
        let (username, password) = (get("USERNAME"), get("PASSWORD"));
        (username.is_some() || password.is_some()).then(|| Credential {
            username: username.unwrap_or_default(),
            password: password.unwrap_or_default(),
        })
    })
}

/// Machines with their logins, in the file's order. What cannot be read is left out: the file is shared with other
/// programs and is not ours to judge.
fn parse_netrc(text: &str) -> Vec<(String, Credential)> {
    let mut entries = Vec::new();
    let mut open: Option<(String, Credential)> = None;
    let mut tokens = netrc_tokens(text).into_iter();
    while let Some(token) = tokens.next() {
        match token.as_str() {
            "machine" => {
                entries.extend(open.take());
                open = tokens
                    .next()
                    .map(|host| (host, Credential { username: String::new(), password: String::new() }));
            }
            "default" => entries.extend(open.take()),
            "login" => {
                if let (Some((_, credential)), Some(login)) = (open.as_mut(), tokens.next()) {
                    credential.username = login;
                }
            }
            "password" => {
                if let (Some((_, credential)), Some(password)) = (open.as_mut(), tokens.next()) {
                    credential.password = password;
                }
            }
            "account" => {
                tokens.next();
            }
            _ => {}
        }
    }
    entries.extend(open);
    entries
}

/// Words of a netrc file: white space separates, double quotes with backslash escapes group, `#` begins a comment
/// where a word would, a `macdef` lasts to the next empty line.
fn netrc_tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut in_macro = false;
    for line in text.lines() {
        if in_macro {
            in_macro = !line.trim().is_empty();
            continue;
        }
        let mut rest = line.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let (token, after) = if let Some(quoted) = rest.strip_prefix('"') {
                quoted_word(quoted)
            } else {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            };
            if token == "macdef" {
                in_macro = true;
                break;
            }
            tokens.push(token);
            rest = after.trim_start();
        }
    }
    tokens
}

fn quoted_word(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (word, &text[at + 1..]),
            '\\' => word.extend(chars.next().map(|(_, escaped)| escaped)),
            other => word.push(other),
        }
    }
    (word, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: Option<&str>, url: &str) -> Index {
        Index {
            name: name.map(str::to_owned),
            url: url.to_owned(),
            default: false,
            explicit: false,
            packages: Vec::new(),
        }
    }

    fn sent(credentials: &Credentials, url: &str) -> Option<String> {
        let credential = credentials.for_url(&Url::parse(url).unwrap())?;
        Some(format!("{}:{}", credential.username, credential.password))
    }

    #[test]
    fn credentials_reach_their_own_origin_only() {
        let indexes = [
            index(Some("corp-a"), "https://u%40x:p%2Fw@pkg.example/a/simple"),
            index(None, "https://other:secret@pkg.example/b/simple/"),
            index(None, "http://open.example:8080/simple"),
        ];
        let sources = Sources {
            netrc: Some(
                "# mine\nmachine files.example login net password \"a b\\\"c\"\nmacdef init\nmachine evil.example login x\n\n\
                 machine open.example account z login o password p\ndefault login anyone password all"
                    .to_owned(),
            ),
            ..Sources::default()
        };
        let all = Credentials::of(&indexes, &sources);
        for (url, expected) in [
            ("https://pkg.example/a/simple/numpy/", Some("u@x:p/w")),
            ("https://pkg.example/b/files/x.whl", Some("other:secret")),
            ("https://pkg.example/elsewhere", Some("u@x:p/w")),
            ("http://pkg.example/a/simple/", None),
            ("https://pkg.example:8443/a/simple/", None),
            ("https://sub.pkg.example/a/simple/", None),
            ("https://files.example/x.whl", Some("net:a b\"c")),
            ("http://files.example/x.whl", None),
            ("http://open.example:8080/x.whl", Some("o:p")),
            ("http://open.example/x.whl", None),
            ("https://evil.example/", None),
            ("https://unknown.example/", None),
        ] {
            assert_eq!(sent(&all, url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn the_environment_comes_first() {
        let indexes = [index(Some("corp-a"), "https://u:p@pkg.example/simple")];
        let variables = |pairs: &[(&str, &str)]| Sources {
            variables: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            netrc: None,
        };
        for (pairs, expected) in [
            (&[][..], "u:p"),
            (&[("UV_INDEX_CORP_A_USERNAME", "x"), ("UV_INDEX_CORP_A_PASSWORD", "y")], "x:y"),
            (&[("UV_INDEX_CORP_A_PASSWORD", "y"), ("MLBUILD_INDEX_CORP_A_PASSWORD", "z")], ":z"),
            (&[("UV_INDEX_CORP_B_PASSWORD", "y")], "u:p"),
        ] {
            let all = Credentials::of(&indexes, &variables(pairs));
            assert_eq!(sent(&all, "https://pkg.example/simple/").as_deref(), Some(expected));
        }
    }

    #[test]
    fn signed_urls_are_refused() {
        for query in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=k&X-Amz-Signature=0123",
            "x-goog-signature=0123",
            "sv=2024-01-01&se=2026-01-01&sp=r&sig=0123",
            "Expires=1&Signature=0123&Key-Pair-Id=K",
            "a=1&TOKEN=0123",
            "access%5Ftoken=0123",
        ] {
            let url = Url::parse(&format!("https://files.example/a-1-py3-none-any.whl?{query}")).unwrap();
            let error = refuse_signed("a-1-py3-none-any.whl", &url).unwrap_err();
            assert!(error.contains("`a-1-py3-none-any.whl`") && !error.contains("0123"), "{error}");
        }
        for query in ["", "?", "?version=3", "?sv=1&se=2&sp=r", "?tokens=1&design=x", "?#token=1"] {
            let url = Url::parse(&format!("https://files.example/a.whl{query}")).unwrap();
            assert_eq!(refuse_signed("a.whl", &url), Ok(()), "{query}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_texts() {
        for (given, expected) in [
            ("https://user:secret@pkg.example/simple", "https://pkg.example/simple"),
            ("https://token@pkg.example/simple/", "https://pkg.example/simple/"),
            ("https://pkg.example/simple", "https://pkg.example/simple"),
            ("user:secret@pkg.example", "pkg.example"),
        ] {
            assert_eq!(without_credentials(given), expected);
        }
        let url = Url::parse("https://us%40er:se%2Fcret@pkg.example/").unwrap();
        let credential = Credential::of_url(&url).unwrap();
        assert_eq!((&*credential.username, &*credential.password), ("us@er", "se/cret"));
        assert_eq!(Credential::of_url(&Url::parse("https://pkg.example/").unwrap()), None);
        assert!(!format!("{credential:?}").contains("cret"));
    }
}

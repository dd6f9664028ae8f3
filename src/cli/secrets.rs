//! Names and passwords inside URLs, which a spec may have and no message shows.

use std::borrow::Cow;

/// How messages write what they hide themselves.
const HIDDEN: &str = "…";

/// `text` with what stands before the `@` of each URL replaced by as many bytes of `*`, so that spans stay true.
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut done = 0;
    for (at, mark) in text.match_indices("://") {
        let start = at + mark.len();
        let ends = |c: char| c.is_whitespace() || "/?#\"'`<>".contains(c);
        let authority = text[start..].split(ends).next().unwrap_or_default();
        if let Some(userinfo) = authority.rfind('@').filter(|at| start >= done && authority[..*at] != *HIDDEN)
        {
            shown.push_str(&text[done..start]);
            shown.push_str(&"*".repeat(userinfo));
            done = start + userinfo;
        }
    }
    match done {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(shown + &text[done..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_before_the_at_is_hidden() {
        for (text, shown) in [
            (
                "url = \"https://me:s3cr3t@x.example/simple\" # me@x",
                "url = \"https://*********@x.example/simple\" # me@x",
            ),
            ("`ftp://tökén@x.example`", "`ftp://*******@x.example`"),
            ("https://a:b@c@x.example, http://d@y.example", "https://*****@x.example, http://*@y.example"),
            (
                "https://x.example/a@b and https://y.example/?u=c@d",
                "https://x.example/a@b and https://y.example/?u=c@d",
            ),
            ("://@", "://@"),
            ("https://", "https://"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(masked(text).len(), text.len());
        }
    }
}

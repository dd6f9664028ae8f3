//! Names and passwords inside URLs, and queries, which may be tokens: a spec may have them and no message shows them.

use std::borrow::Cow;

/// How messages write what they hide themselves.
const HIDDEN: &str = "…";

/// `text` with what stands before the `@` of each URL, and behind its `?`, replaced by as many bytes of `*`, so that
/// spans stay true.
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut done = 0;
    for (at, mark) in text.match_indices("://") {
        let start = at + mark.len();
        if start < done {
            continue;
        }
        let outside = |c: char| c.is_whitespace() || "\"'`<>".contains(c);
        let url = text[start..].split(outside).next().unwrap_or_default();
        let authority = url.split(['/', '?', '#']).next().unwrap_or_default();
        let mut hide = |from: usize, to: usize| {
            if from < to && text[from..to] != *HIDDEN {
                shown.push_str(&text[done..from]);
                shown.push_str(&"*".repeat(to - from));
                done = to;
            }
        };
        if let Some(userinfo) = authority.rfind('@') {
            hide(start, start + userinfo);
        }
        if let Some(query) = url.find('?') {
            let end = url[query..].find('#').map_or(url.len(), |fragment| query + fragment);
            hide(start + query + 1, start + end);
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
    fn what_is_before_the_at_or_in_a_query_is_hidden() {
        for (text, shown) in [
            (
                "url = \"https://me:s3cr3t@x.example/simple\" # me@x",
                "url = \"https://*********@x.example/simple\" # me@x",
            ),
            ("`ftp://tökén@x.example`", "`ftp://*******@x.example`"),
            ("https://a:b@c@x.example, http://d@y.example", "https://*****@x.example, http://*@y.example"),
            (
                "https://x.example/a@b and https://y.example/?u=c@d#e",
                "https://x.example/a@b and https://y.example/?*****#e",
            ),
            ("'https://u@x.example?token=t' ?x", "'https://*@x.example?*******' ?x"),
            ("https://x.example/?u=http://a@b", "https://x.example/?************"),
            ("https://x.example/?…", "https://x.example/?…"),
            ("https://x.example/?", "https://x.example/?"),
            ("://@", "://@"),
            ("https://", "https://"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(masked(text).len(), text.len());
        }
    }
}

//! What may stand in a user name, a password or a token.

/// A user name of RFC 7617 has no colon and no control characters.
pub(super) fn check_user(user: &str) -> Result<(), &'static str> {
    if user.contains(':') {
        return Err("the user name has a colon");
    }
    if user.chars().any(char::is_control) { Err("the user name has a control character") } else { Ok(()) }
}

/// RFC 7617 forbids control characters, but Google's password of the user `_json_key` is a file of several lines, and all
/// tools take it: in a header it is in base 64. What is of one line does not end with a break by intention.
pub(super) fn check_password(password: &str) -> Result<(), &'static str> {
    let line = password.trim_end_matches(['\n', '\r']);
    if line != password && !line.contains('\n') {
        return Err("the password ends with a line break (`printf %s` writes none where `echo` does)");
    }
    let is_refused = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if password.contains(is_refused) { Err("the password has a control character") } else { Ok(()) }
}

pub(super) fn check_token(token: &str) -> Result<(), &'static str> {
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("the token has a character that no header takes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_headers_cannot_hold_is_refused() {
        assert!(check_user("wörd me").is_ok() && check_password("pa:ss wörd").is_ok());
        assert!(check_token("eyJ.a-b_c=").is_ok());
        assert!(check_user("a:b").is_err() && check_user("a\r\nb").is_err());
        for password in ["a\x1bb", "a\0b", "a\nb\x7f", "a\u{85}b"] {
            assert!(check_password(password).is_err(), "{password:?}");
        }
        for password in ["{\n\t\"private_key\": \"x\"\r\n}", "{\n}\n"] {
            assert_eq!(check_password(password), Ok(()), "{password:?}");
        }
        assert!(check_password("a\r\n").is_err() && check_token("a\nb").is_err());
        assert!(check_password("a\n").unwrap_err().contains("echo"));
        assert!(check_token("a b").is_err() && check_token("a\n").is_err() && check_token("é").is_err());
    }
}

//! What may stand in a user name, a password or a token.

/// A user name of RFC 7617 has no colon; no field has control characters.
pub(super) fn check_user(user: &str) -> Result<(), &'static str> {
    if user.contains(':') {
        return Err("the user name has a colon");
    }
    if user.chars().any(char::is_control) { Err("the user name has a control character") } else { Ok(()) }
}

pub(super) fn check_password(password: &str) -> Result<(), &'static str> {
    if password.ends_with(['\n', '\r']) {
        return Err("the password ends with a line break (`printf %s` writes none where `echo` does)");
    }
    if password.chars().any(char::is_control) { Err("the password has a control character") } else { Ok(()) }
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
        assert!(check_password("a\x1bb").is_err());
        assert!(check_password("a\n").unwrap_err().contains("echo"));
        assert!(check_token("a b").is_err() && check_token("a\n").is_err() && check_token("é").is_err());
    }
}

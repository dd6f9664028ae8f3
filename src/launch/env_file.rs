//! Files of variables, `--env-file`, as docker reads them: a line is `NAME=value`, or `NAME` for the caller's own value;
//! empty lines and those that start with `#` say nothing. There are no quotes, no escapes and no `export`: the value is
//! all that follows the `=`, with its spaces.

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}")]
pub struct EnvFileError {
    pub line: usize,
    rule: &'static str,
}

/// Its `NAME=value` and `NAME`, in order.
pub fn env_file(text: &str) -> Result<Vec<String>, EnvFileError> {
    let mut variables = Vec::new();
    // Editors of Windows write a byte order mark.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |rule| Err(EnvFileError { line: index + 1, rule });
        match line.split_once('=').map_or(line, |(name, _)| name) {
            "" => return wrong("there is no name before the `=`"),
            name if name.contains(char::is_whitespace) => return wrong("a name cannot have spaces"),
            _ if line.contains('\0') => return wrong("a value cannot have a NUL"),
            _ => variables.push(line.to_owned()),
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_are() {
        let text = "\u{feff}# comment\nA=1\r\n\n  # another\n  B = x\nC=\"quoted\"\nD= two words # no comment \nE=\nF=a=b\nG\n";
        let error = EnvFileError { line: 5, rule: "a name cannot have spaces" };
        assert_eq!(env_file(text), Err(error));
        let sound = text.replace("B = x", "B='x'");
        let expected = ["A=1", "B='x'", "C=\"quoted\"", "D= two words # no comment ", "E=", "F=a=b", "G"]
            .map(String::from);
        assert_eq!(env_file(&sound), Ok(expected.to_vec()));
    }

    #[test]
    fn lines_without_a_name_are_refused_by_number() {
        for (text, line) in [("=x", 1), ("A=1\nexport B=2\n", 2), ("A=1\n\nNAME \n", 3), ("A=\0", 1)] {
            assert_eq!(env_file(text).map_err(|error| error.line), Err(line), "{text:?}");
        }
    }
}

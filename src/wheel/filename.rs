//! Names and versions as wheels write them: the file name, and the normal forms in which they are compared
//! (PEP 503 for names, PEP 440 for versions).

/// A wheel's file name, taken apart: `{name}-{version}[-{build}]-{python}-{abi}-{platform}.whl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName {
    /// Normalised.
    pub name: String,
    /// As written.
    pub version: String,
    /// Empty when there is none.
    pub build: String,
    /// `py2.py3-none-any`: each part may stand for several.
    pub tags: String,
}

impl FileName {
    /// `None` when `text` is no wheel's name.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.strip_suffix(".whl")?.split('-').collect();
        if !matches!(parts.len(), 5 | 6) || parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        if parts.len() == 6 && !parts[2].starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        if !parts[0].bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')) {
            return None;
        }
        Some(Self {
            name: normal_name(parts[0]),
            version: parts[1].to_owned(),
            build: if parts.len() == 6 { parts[2].to_owned() } else { String::new() },
            tags: parts[parts.len() - 3..].join("-"),
        })
    }
}

/// Whether two compressed tag sets (`py2.py3-none-any`, as in a file name) have one tag in common, by Python, ABI and
/// machine. Which manylinux a wheel is for is corrected by renaming it now and then, so that does not count.
pub fn tags_meet(a: &str, b: &str) -> bool {
    let parts = |tags: &str| -> Vec<Vec<String>> {
        let machine = |part: &str| match part.rsplit_once("linux") {
            Some((_, rest)) => rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_').to_owned(),
            None => part.to_owned(),
        };
        tags.split('-')
            .map(|part| part.split('.').map(|part| machine(&part.to_ascii_lowercase())).collect())
            .collect()
    };
    let (a, b) = (parts(a), parts(b));
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.iter().any(|part| b.contains(part)))
}

/// PEP 503: lower case, runs of `-`, `_` and `.` as one `-`.
pub fn normal_name(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '-' | '_' | '.') {
            if !normal.ends_with('-') {
                normal.push('-');
            }
        } else {
            normal.push(c.to_ascii_lowercase());
        }
    }
    normal
}

/// Whether two texts are one version: `1.0` and `v1.0.0`, `2.0rc1` and `2.0-RC.1`. `claimed` may lack the local
/// part of `file`, as some wheels' metadata do.
pub fn same_version(file: &str, claimed: &str) -> bool {
    let (file, claimed) = (normal_version(file), normal_version(claimed));
    file == claimed || (!claimed.contains('+') && file.split('+').next() == Some(&claimed))
}

/// PEP 440's normal form with trailing zeros of the release left out, so that equal versions are equal texts.
/// A text that is no PEP 440 version is only lower-cased.
pub fn normal_version(text: &str) -> String {
    let lower = text.trim().to_ascii_lowercase().replace('_', "-");
    parse_version(&lower).unwrap_or(lower)
}

fn parse_version(text: &str) -> Option<String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (public, local) = match text.split_once('+') {
        Some((public, local)) => (public, Some(local)),
        None => (text, None),
    };
    let (epoch, mut rest) = match public.split_once('!') {
        Some((epoch, rest)) => (number(epoch)?, rest),
        None => ("0", public),
    };
    let mut release = vec![take_number(&mut rest)?];
    while let Some(after) = rest.strip_prefix('.') {
        let mut after = after;
        match take_number(&mut after) {
            Some(part) => release.push(part),
            None => break,
        }
        rest = after;
    }
    while release.len() > 1 && release.last() == Some(&"0") {
        release.pop();
    }
    let mut normal = format!("{epoch}!{}", release.join("."));
    let pre = [
        ("alpha", "a"),
        ("beta", "b"),
        ("preview", "rc"),
        ("pre", "rc"),
        ("rc", "rc"),
        ("a", "a"),
        ("b", "b"),
        ("c", "rc"),
    ];
    if let Some((label, number)) = take_label(&mut rest, &pre) {
        normal.push_str(&format!("{label}{number}"));
    }
    let post = [("post", "post"), ("rev", "post"), ("r", "post")];
    if let Some((label, number)) = take_label(&mut rest, &post) {
        normal.push_str(&format!(".{label}{number}"));
    } else if let Some(mut after) = rest.strip_prefix('-')
        && let Some(number) = take_number(&mut after)
    {
        normal.push_str(&format!(".post{number}"));
        rest = after;
    }
    if let Some((label, number)) = take_label(&mut rest, &[("dev", "dev")]) {
        normal.push_str(&format!(".{label}{number}"));
    }
    if !rest.is_empty() {
        return None;
    }
    if let Some(local) = local {
        let parts: Vec<&str> = local.split(['.', '-']).map(|part| number(part).unwrap_or(part)).collect();
        if parts.iter().any(|part| part.is_empty() || !part.bytes().all(|b| b.is_ascii_alphanumeric())) {
            return None;
        }
        normal.push_str(&format!("+{}", parts.join(".")));
    }
    Some(normal)
}

/// A number without its leading zeros; `None` when `text` is none.
fn number(text: &str) -> Option<&str> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let stripped = text.trim_start_matches('0');
    Some(if stripped.is_empty() { "0" } else { stripped })
}

fn take_number<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    let value = number(digits)?;
    *rest = after;
    Some(value)
}

/// `[-.]label[-.][number]`, the number 0 when left out.
fn take_label<'a>(rest: &mut &'a str, labels: &[(&str, &'static str)]) -> Option<(&'static str, &'a str)> {
    let unseparated = rest.strip_prefix(['-', '.']).unwrap_or(rest);
    let (mut after, label) =
        labels.iter().find_map(|(word, label)| Some((unseparated.strip_prefix(word)?, *label)))?;
    let mut numbered = after.strip_prefix(['-', '.']).unwrap_or(after);
    let value = match take_number(&mut numbered) {
        Some(value) => {
            after = numbered;
            value
        }
        None => "0",
    };
    *rest = after;
    Some((label, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        let parsed = FileName::parse("Torch_Audio-2.9.1+cu128-1-cp311-cp311-manylinux_2_28_x86_64.whl");
        assert_eq!(
            parsed,
            Some(FileName {
                name: "torch-audio".into(),
                version: "2.9.1+cu128".into(),
                build: "1".into(),
                tags: "cp311-cp311-manylinux_2_28_x86_64".into(),
            })
        );
        for wrong in
            ["x-1-py3-none-any.zip", "x-1-none-any.whl", "x-1-b-py3-none-any.whl", "-1-py3-none-any.whl"]
        {
            assert_eq!(FileName::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tags() {
        for (a, b, meet) in [
            ("py3-none-any", "py3-none-any", true),
            ("py2.py3-none-any", "py3-none-any", true),
            ("py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64", "py3-none-linux_x86_64", true),
            ("cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_28_aarch64", false),
            ("cp311-cp311-musllinux_1_2_x86_64", "cp311-cp311-win_amd64", false),
            ("cp311-cp311-linux_x86_64", "cp312-cp312-linux_x86_64", false),
            ("cp38-abi3-linux_x86_64", "cp38-cp38-linux_x86_64", false),
            ("py3-none-any", "py3-none", false),
        ] {
            assert_eq!(tags_meet(a, b), meet, "{a} {b}");
            assert_eq!(tags_meet(b, a), meet, "{b} {a}");
        }
    }

    #[test]
    fn versions() {
        for (a, b, same) in [
            ("1.0", "v1.0.0", true),
            ("2.0rc1", "2.0-RC.1", true),
            ("2.0c1", "2.0.pre1", true),
            ("1.0-1", "1.0.post1", true),
            ("1.0a", "1.0alpha0", true),
            ("1.0.dev", "1.0dev0", true),
            ("0!1.0", "1", true),
            ("2.9.1+cu128", "2.9.1", true),
            ("2.9.1", "2.9.1+cu128", false),
            ("1.0+a.01", "1.0+a_1", true),
            ("1.0", "1.0.1", false),
            ("1.0", "1!1.0", false),
            ("1.0.post1", "1.0.dev1", false),
            ("weird!", "weird!", true),
        ] {
            assert_eq!(same_version(a, b), same, "{a} {b}");
        }
    }
}

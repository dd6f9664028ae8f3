//! uv's explanations and hints in our words: its own name options and files that we do not have.
//!
//! What is not known here passes as it is. The texts are those of the exact version in `Cargo.toml`.

/// Pieces of uv's hints, and what stands for them.
const PIECES: &[(&str, &str)] = &[
    (" for all packages (i.e., with `--no-build`)", ""),
    ("--prerelease=allow", "prerelease = \"allow\""),
    ("By default, uv will only consider versions", "mlbuild considers only versions"),
    (
        " If all indexes are equally trusted, use `--index-strategy unsafe-best-match` to consider all versions from all \
         indexes, regardless of the order in which they were defined.",
        " Name the package in `packages` of the index that is to provide it.",
    ),
    (" Try increasing UV_HTTP_TIMEOUT (current value: 30s).", ""),
    ("but uv received", "but there was"),
    (
        " If the failing package is not present on this index, consider adding `ignore-error-codes = [403]` to the index's \
         `[[tool.uv.index]]` entry to continue searching across indexes.",
        " If the package is not on this index, name it in `packages` of the one that has it.",
    ),
];

/// `text` with the requirements whole that uv writes without their `==`: "there is no version of torch9.9".
pub(super) fn explanation(text: String) -> String {
    const BEFORE: &str = "there is no version of ";
    let word = |text: &str| text.trim_end_matches([',', '.', '\n']).to_owned();
    let whole: Vec<_> = text.split([' ', '\n']).filter(|word| word.contains("==")).map(word).collect();
    let mut said = text.clone();
    for requirement in &whole {
        for end in [" ", "\n", ","] {
            let torn = format!("{BEFORE}{}{end}", requirement.replacen("==", "", 1));
            said = said.replace(&torn, &format!("{BEFORE}{requirement}{end}"));
        }
    }
    said
}

/// `hints` as we say them, with ours added where the explanation calls for them.
pub(super) fn hints(hints: impl IntoIterator<Item = String>, explanation: &str) -> Vec<String> {
    let mut said: Vec<String> = hints.into_iter().map(|hint| translated(&hint)).collect();
    let mentions = |text: &str| explanation.contains(text) || said.iter().any(|hint| hint.contains(text));
    let mut ours = Vec::new();
    if mentions("no usable wheels") || mentions("building from source") {
        ours.push(
            "mlbuild installs wheels only: ask for a version that has one for this platform and Python",
        );
    }
    if mentions("401 Unauthorized") || mentions("403 Forbidden") {
        ours.push(
            "credentials come from `MLBUILD_INDEX_<NAME>_USERNAME` and `_PASSWORD`, the index's URL, or a netrc file",
        );
    }
    said.extend(ours.into_iter().map(str::to_owned));
    said
}

fn translated(hint: &str) -> String {
    // "The `requires-python` value (…) includes … (e.g., X only supports >=3.12). Consider …": the value is ours.
    if hint.starts_with("The `requires-python` value")
        && let Some((_, rest)) = hint.split_once("(e.g., ")
        && let Some((example, _)) = rest.rsplit_once("). Consider")
    {
        return format!("{example}: choose another version of it, or of Python");
    }
    PIECES.iter().fold(hint.to_owned(), |hint, (theirs, ours)| hint.replace(theirs, ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_whole() {
        let end = "we can conclude that your requirements are unsatisfiable.";
        for (theirs, ours) in [
            (
                format!("Because there is no version of a11.2 and you require a1==1.2, {end}"),
                format!("Because there is no version of a1==1.2 and you require a1==1.2, {end}"),
            ),
            (
                format!("Because there is no version of b2 and a==1 depends on b==2, {end}"),
                format!("Because there is no version of b==2 and a==1 depends on b==2, {end}"),
            ),
            (
                format!("Because there is no version of b2 and c==2, {end}"),
                format!("Because there is no version of b2 and c==2, {end}"),
            ),
        ] {
            assert_eq!(explanation(theirs), ours);
        }
    }

    #[test]
    fn no_option_of_uvs_is_named() {
        for (theirs, expected) in [
            (
                "The `requires-python` value (>=3.11.2) includes Python versions that are not supported by your dependencies (e.g., a==1 only supports >=3.12). Consider using a more restrictive `requires-python` value (like >=3.12).",
                "a==1 only supports >=3.12: choose another version of it, or of Python",
            ),
            (
                "Wheels are required for `a` because building from source is disabled for all packages (i.e., with `--no-build`)",
                "Wheels are required for `a` because building from source is disabled",
            ),
            ("something new", "something new"),
        ] {
            assert_eq!(translated(theirs), expected);
        }
        assert_eq!(hints([], "401 Unauthorized").len(), 1);
        assert!(hints([], "no version").is_empty());
    }
}

//! `[image]`: name and run configuration.

use std::collections::BTreeMap;

use super::super::check::quoted;
use super::super::source::Place;
use super::super::{model, wire};
use super::words;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::oci::{Platform, Reference};

/// Variables that would load foreign code into every process, the sandbox's and the scanner's included.
const LOADER_VARIABLES: [&str; 2] = ["LD_PRELOAD", "LD_LIBRARY_PATH"];

/// `base` is none where nobody knows what it is meant to be.
pub(super) fn image(
    image: wire::Image,
    base: Option<&model::Base>,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> model::Image {
    if let Some(name) = &image.name {
        check_reference(name, &place.get("name"), found);
    }
    check_env(&image.env, &place.get("env"), found);
    check_annotations(&image.labels, "a label", &place.get("labels"), found);
    check_annotations(&image.annotations, "an annotation", &place.get("annotations"), found);
    if let Some(user) = &image.user {
        check_user(user, base, &place.get("user"), found);
    }
    if let Some(program) = image.entrypoint.iter().flatten().next().filter(|program| program.is_empty()) {
        let message = format!("the program in `entrypoint` is {}", quoted(program));
        found.push(Diagnostic::error(message, place.get("entrypoint").at(0).span()));
    }
    model::Image {
        name: image.name,
        platforms: platforms(image.platforms, &place.get("platforms"), found),
        entrypoint: image.entrypoint,
        cmd: image.cmd,
        env: image.env,
        workdir: image.workdir.map(|path| words::image_path(&path, "workdir", &place.get("workdir"), found)),
        user: image.user,
        labels: image.labels,
        annotations: image.annotations,
        ports: ports(&image.ports, &place.get("ports"), found),
        stop_signal: image.stop_signal.map(|signal| stop_signal(signal, &place.get("stop-signal"), found)),
    }
}

fn platforms(
    named: Option<Vec<wire::Platform>>,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) -> Vec<Platform> {
    let Some(named) = named else { return vec![Platform::LinuxAmd64] };
    let mut platforms = Vec::new();
    for (at, platform) in named.into_iter().enumerate() {
        let platform = match platform {
            wire::Platform::LinuxAmd64 => Platform::LinuxAmd64,
            wire::Platform::LinuxArm64 => Platform::LinuxArm64,
        };
        if platforms.contains(&platform) {
            let message = format!("platform `{platform}` is named twice");
            found.push(Diagnostic::warning(message, place.at(at).span()));
        } else {
            platforms.push(platform);
        }
    }
    platforms.sort();
    platforms
}

/// `[host[:port]/]path[:tag]`: a reference without a digest.
fn check_reference(name: &str, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let refuse = |rule: &str| Diagnostic::error(format!("image name {} {rule}", quoted(name)), place.span());
    if name.contains('@') {
        found.push(
            refuse("has a digest").hint("the digest is what the build yields: name repository and tag"),
        );
    } else if name.contains("://") {
        found.push(refuse("has a scheme").hint("write host and path only: `registry.example/team/trainer`"));
    } else if let Err(error) = name.parse::<Reference>() {
        let message = format!("{} is not the name of an image: {}", quoted(name), error.rule);
        let diagnostic = Diagnostic::error(message, place.span());
        let lower = in_lower_case(name);
        found.push(match lower != name && lower.parse::<Reference>().is_ok() {
            true => diagnostic.hint(format!("write `{lower}`")),
            false => diagnostic,
        });
    }
}

/// The name in lower case, its tag as it is.
fn in_lower_case(name: &str) -> String {
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let end = name[slash..].find(':').map_or(name.len(), |colon| slash + colon);
    format!("{}{}", name[..end].to_lowercase(), &name[end..])
}

pub(super) fn check_env(env: &BTreeMap<String, String>, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    for name in env.keys() {
        let span = place.get(name).key_span();
        let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if LOADER_VARIABLES.contains(&name.as_str()) {
            found.push(
                Diagnostic::error(format!("variable `{name}` is refused"), span)
                    .hint(
                        "it would make the loader take other libraries than those that are locked, \
                         in every program of the image and in the tools that run it",
                    )
                    .hint("install the library where its program looks for it"),
            );
        } else if !begins_well || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            found.push(
                Diagnostic::error(format!("{} is not the name of a variable", quoted(name)), span)
                    .hint("letters, digits and `_`, not beginning with a digit"),
            );
        }
    }
}

fn check_annotations(
    map: &BTreeMap<String, String>,
    what: &str,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) {
    for key in map.keys() {
        let span = place.get(key).key_span();
        if key.is_empty() || key.chars().any(|c| c.is_whitespace() || c.is_control()) {
            found.push(Diagnostic::error(format!("{} is not the name of {what}", quoted(key)), span).hint(
                "one or more characters without white space, such as `org.opencontainers.image.source`",
            ));
        } else if key == "org.opencontainers.image.ref.name" && what == "an annotation" {
            found.push(
                Diagnostic::error(format!("annotation `{key}` is set by the build"), span)
                    .hint("it carries the tag: set `name`, or build with `-t`"),
            );
        }
    }
}

/// `name`, `uid`, `name:group`, `uid:gid` and their mixtures.
fn check_user(user: &str, base: Option<&model::Base>, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let parts: Vec<&str> = user.split(':').collect();
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    // The highest two are "unchanged" and overflow in the kernel's and in tools' eyes.
    let good = |part: &str| {
        if !part.is_empty() && number(part) {
            return part.parse::<u32>().is_ok_and(|id| id < u32::MAX - 1);
        }
        part.len() <= 32
            && part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    if parts.len() > 2 || !parts.iter().all(|part| good(part)) {
        found.push(
            Diagnostic::error(format!("{} is not a user", quoted(user)), place.span())
                .hint("expected `name`, `uid`, `name:group` or `uid:gid`"),
        );
    } else if base == Some(&model::Base::Scratch) && !parts.iter().all(|part| number(part)) {
        found.push(
            Diagnostic::warning(
                format!("user {} is a name, and `scratch` has no /etc/passwd", quoted(user)),
                place.span(),
            )
            .hint("name the user by number: \"65532:65532\""),
        );
    }
}

fn ports(named: &[String], place: &Place<'_>, found: &mut Vec<Diagnostic>) -> Vec<String> {
    let mut ports: Vec<(u16, &str)> = Vec::new();
    for (at, text) in named.iter().enumerate() {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let refuse =
            |rule: &str| Diagnostic::error(format!("port {} {rule}", quoted(text)), place.at(at).span());
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if !["tcp", "udp", "sctp"].contains(&protocol) {
            found.push(
                refuse(&format!("has the protocol {}", quoted(protocol)))
                    .hint("expected `tcp`, `udp` or `sctp`"),
            );
        } else if number.contains('-') {
            found.push(refuse("is a range").hint("name each port: an image configuration knows no ranges"));
        } else if number.contains(':') {
            found.push(refuse("has a port of the host").hint(
                "only the port of the program stands here: where it is published is said when the image runs",
            ));
        } else {
            match number.parse::<u16>() {
                Ok(port) if digits && port > 0 => ports.push((port, protocol)),
                _ => found.push(
                    refuse("is not a port").hint("a number from 1 to 65535, such as `8080` or `53/udp`"),
                ),
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    let mut ports: Vec<String> =
        ports.into_iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect();
    ports.sort_unstable();
    ports
}

/// Names of Linux's signals, as runtimes know them.
const SIGNALS: [&str; 34] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
];

fn stop_signal(signal: String, place: &Place<'_>, found: &mut Vec<Diagnostic>) -> String {
    let realtime = |rest: Option<&str>| {
        rest.is_some_and(|rest| rest.len() <= 2 && rest.parse::<u8>().is_ok_and(|n| (1..=30).contains(&n)))
    };
    let known = SIGNALS.contains(&signal.as_str())
        || matches!(signal.as_str(), "SIGXCPU" | "SIGXFSZ")
        || realtime(signal.strip_prefix("SIGRTMIN+"))
        || realtime(signal.strip_prefix("SIGRTMAX-"))
        || signal.bytes().all(|b| b.is_ascii_digit())
            && signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
    if !known {
        let upper = signal.to_uppercase();
        let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
        let near = (full.len() <= 16).then(|| did_you_mean(&full, SIGNALS)).flatten();
        let diagnostic = Diagnostic::error(format!("{} is not a signal", quoted(&signal)), place.span());
        found.push(match near {
            Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
            None => diagnostic.hint("a name such as `SIGTERM`, or a number from 1 to 64"),
        });
    }
    signal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(check: impl FnOnce(&Place<'_>, &mut Vec<Diagnostic>)) -> Vec<String> {
        let mut found = Vec::new();
        check(&Place::nowhere(), &mut found);
        found.into_iter().map(|diagnostic| diagnostic.message).collect()
    }

    #[test]
    fn names_of_images() {
        for good in [
            "trainer",
            "trainer:1.0",
            "team/trainer",
            "registry.example/team/trainer",
            "registry.example:5000/team/trainer:v1_2",
            "localhost/trainer",
            "localhost:5000/a/b__c/d--e:latest",
            "[::1]:5000/trainer",
            "127.0.0.1:5000/x",
        ] {
            assert_eq!(messages(|p, f| check_reference(good, p, f)), [""; 0], "{good}");
        }
        for (wrong, rule) in [
            ("a@sha256:00", "has a digest"),
            ("https://registry.example/a", "has a scheme"),
            ("Trainer", "is not the name of an image: the name has capital letters"),
            ("a:.b", "or begins with `.` or `-`"),
            ("a//b", "is not the name of an image: the name has an empty part"),
            ("-.example/a", "is not the name of an image: the registry is no host name"),
            ("", "is not the name of an image: it has no name"),
        ] {
            let messages = messages(|p, f| check_reference(wrong, p, f));
            assert!(messages.len() == 1 && messages[0].ends_with(rule), "{wrong}: {messages:?}");
        }
    }

    #[test]
    fn users() {
        for (user, good) in [
            ("nonroot", true),
            ("0", true),
            ("1000:1000", true),
            ("www-data:www-data", true),
            ("app:100", true),
            ("", false),
            (":1", false),
            ("1:", false),
            ("a:b:c", false),
            ("-x", false),
            ("4294967295", false),
            ("1e3", false),
            ("a b", false),
        ] {
            let base = model::Base::Debian(model::Debian {
                suite: model::Suite::Bookworm,
                snapshot: None,
                packages: Vec::new(),
                mirrors: Vec::new(),
            });
            assert_eq!(messages(|p, f| check_user(user, Some(&base), p, f)).is_empty(), good, "{user}");
        }
        assert_eq!(messages(|p, f| check_user("app", Some(&model::Base::Scratch), p, f)).len(), 1);
        assert_eq!(messages(|p, f| check_user("1:1", Some(&model::Base::Scratch), p, f)).len(), 0);
    }

    #[test]
    fn ports_are_normalised() {
        let named: Vec<String> = ["8080", "53/udp", "8080/tcp", "443/tcp"].map(String::from).to_vec();
        let mut normal = Vec::new();
        assert_eq!(messages(|p, f| normal = ports(&named, p, f)), [""; 0]);
        assert_eq!(normal, ["443/tcp", "53/udp", "8080/tcp"]);
        for wrong in ["0", "65536", "80-90", "80:8080", "80/icmp", "", "+80", "http", "80/"] {
            assert_eq!(messages(|p, f| drop(ports(&[wrong.to_owned()], p, f))).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn signals() {
        for (signal, good) in [
            ("SIGTERM", true),
            ("SIGRTMIN+3", true),
            ("SIGRTMAX-14", true),
            ("15", true),
            ("64", true),
            ("0", false),
            ("65", false),
            ("TERM", false),
            ("sigint", false),
            ("SIGRTMIN+99", false),
        ] {
            let found = messages(|p, f| drop(stop_signal(signal.to_owned(), p, f)));
            assert_eq!(found.is_empty(), good, "{signal}");
        }
    }
}

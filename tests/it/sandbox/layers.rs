//! Many layers, on kernels of today and as older ones take them: one string of at most a page.

use std::fs;

use super::view::{entries, list};
use super::{Host, Who};
use crate::support::debs::entry;
use crate::support::skip::or_skip;
use crate::support::tool::tool;
use crate::trees::layout::Layer;
use crate::trees::overlay::differences;

/// Each has a file of its own, one that all have, and hides the one that the layer below has made to be hidden.
pub fn layers(count: usize) -> Vec<Layer> {
    let file = |name: &str, content: &str| entry(name, b'0', 0o644, "", content.as_bytes());
    let layer = |number: usize| {
        let text = number.to_string();
        let mut layer = vec![
            entry("layers", b'5', 0o755, "", b""),
            file(&format!("layers/own-{number}"), &text),
            file("layers/all", &text),
            file(&format!("layers/hidden-{number}"), &text),
        ];
        if number > 0 {
            layer.push(file(&format!("layers/.wh.hidden-{}", number - 1), ""));
        }
        layer
    };
    (0..count).map(layer).collect()
}

/// The calls to fsconfig up to the one that creates the overlay: for the memory its mode and its creation; then layers,
/// upper and work directory, `userxattr`.
fn creation(layers: usize) -> usize {
    2 + layers + 3 + 1
}

fn look_alike(count: usize) {
    or_skip!("older kernels", crate::faults::strace::available());
    or_skip!("older kernels", tool("unshare"));
    for host in or_skip!("older kernels", Host::both("hello")) {
        let host = host.with_layers(&layers(count));
        let now = entries(&list(&host).ok().stdout());
        let names = now.keys().filter(|path| path.starts_with("/layers/")).count();
        assert_eq!(names, count + 2, "{:?}", host.who);
        // hello's own below them.
        let at_last = format!("EINVAL:when={}", creation(count + 3));
        let ages = [
            ("6.8 to 6.14: no descriptors", "EINVAL:when=3", "FSCONFIG_SET_FD", None),
            ("6.5 to 6.7: the option is not known", "EINVAL:when=3..4", "\"lowerdir+\"", Some("= 0")),
            ("up to 6.4: no descriptors at all", "EOPNOTSUPP:when=3", "FSCONFIG_SET_FD", None),
            ("up to 6.4: all of them are refused at last", &at_last, "FSCONFIG_CMD_CREATE", Some("= 0")),
        ];
        for (age, answer, call, mounts) in ages {
            let log = host.path("log");
            let injection = format!("inject=fsconfig:error={answer}");
            let (log, options) = (log.to_str().unwrap(), ["-f", "-qq", "--seccomp-bpf", "-s", "16", "-e"]);
            let strace = [&["strace", "-o", log], &options[..], &["trace=fsconfig,mount", "-e", &injection]];
            let then = list(&host).under(&strace.concat()).run().expect(0);
            let told = fs::read_to_string(log).unwrap();
            let injected: Vec<_> = told.lines().filter(|line| line.contains("(INJECTED)")).collect();
            let all = injected.iter().all(|line| line.contains(call));
            assert!(!injected.is_empty() && all, "{age}: {injected:?}\n{told}");
            let classic = told.lines().find(|line| line.contains("mount(\"overlay\""));
            let result = classic.map(|line| &line[line.len() - 3..]);
            assert_eq!(result, mounts, "{age}: {classic:?}");
            let differences = differences(&now, &entries(&then.stdout()));
            assert!(differences.is_empty(), "{age}: {}", differences[..differences.len().min(20)].join("\n"));
        }
    }
}

#[test]
fn forty_layers_on_older_kernels() {
    look_alike(40);
}

#[test]
fn three_hundred_layers_on_older_kernels() {
    look_alike(300);
}

/// The kernel takes 500.
#[test]
fn too_many_layers_are_refused_by_number() {
    let host = or_skip!("501 layers", Host::new(Who::Root, "hello")).with_layers(&layers(498));
    let refused = host.python(&[], "").expect(125);
    assert!(refused.stderr().contains("cannot mount an overlay of 501 layers"), "{}", refused.stderr());
}

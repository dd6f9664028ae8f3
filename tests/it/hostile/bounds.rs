//! Texts that are long, deep or repetitive: answered in time and memory that their length bounds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use mlbuild::cli::report;
use mlbuild::elf::{self, ElfFacts};
use mlbuild::oci::Platform;
use mlbuild::tree::TreePath;
use mlbuild::{lock, spec};

/// Far above what any of them takes, far below what a quadratic answer to a text of this length would.
const PATIENCE: Duration = Duration::from_secs(10);

/// What this thread has computed, whatever else the machine does meanwhile.
fn cpu_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// Hostile texts of about `len` bytes, by name.
fn texts(len: usize) -> Vec<(&'static str, String)> {
    let fill = |piece: &str| piece.repeat(len / piece.len());
    let numbered = |line: fn(&mut String, usize)| {
        let mut text = String::new();
        for n in 0.. {
            line(&mut text, n);
            if text.len() >= len {
                break;
            }
        }
        text
    };
    vec![
        ("brackets", fill("[")),
        ("arrays in arrays", format!("a = {}", fill("["))),
        ("tables in tables", format!("a = {}", fill("{a="))),
        ("dotted keys", format!("{}a = 1", fill("a."))),
        ("dotted header", format!("[{}a]\nb = 1", fill("a."))),
        ("dotted header of arrays", format!("[[{}a]]\nb = 1", fill("a."))),
        ("dotted keys in an inline table", format!("a = {{ {}a = 1 }}", fill("a."))),
        ("a hundred long paths", format!("{}a = 1\n", "a.".repeat(len / 200)).repeat(100)),
        ("arrays of tables", fill("[[a]]\n")),
        ("one key again and again", fill("a = 1\n")),
        ("other keys", numbered(|text, n| writeln!(text, "k{n} = 1").unwrap())),
        ("other tables", numbered(|text, n| writeln!(text, "[t{n}]").unwrap())),
        (
            "keys of a table",
            numbered(|text, n| {
                if n == 0 {
                    text.push_str("[image.env]\n");
                }
                writeln!(text, "k{n} = 1").unwrap();
            }),
        ),
        ("a long array", format!("a = [{}]", fill("1,"))),
        ("a long array of texts for one", format!("[base]\ndebian = [{}]", fill("'a',"))),
        ("packages", format!("[base]\ndebian = 'bookworm'\npackages = [{}]", fill("'A',"))),
        (
            "good packages",
            format!(
                "[image]\nworkdir = 'x'\n[base]\ndebian = 'bookworm'\npackages = [{}]\n",
                numbered(|text, n| write!(text, "'p{n}',").unwrap())
            ),
        ),
        (
            "good dependencies",
            format!(
                "[image]\nworkdir = 'x'\n[base]\ndebian = 'bookworm'\n[python]\nversion = '3.11'\nrequirements = [{0}]\nprefer = [{0}]\n",
                numbered(|text, n| write!(text, "'p{n}',").unwrap())
            ),
        ),
        (
            "good indexes",
            format!(
                "[image]\nworkdir = 'x'\n[base]\ndebian = 'bookworm'\n{}",
                numbered(
                    |text, n| write!(text, "[[index]]\nurl = 'https://a.example/'\nname = 'i{n}'\n").unwrap()
                )
            ),
        ),
        ("an array that is not closed", format!("a = [{}", fill("1,\n"))),
        ("errors on one line", fill("=")),
        ("errors on many lines", fill("=\n")),
        ("quotes", fill("\"")),
        ("apostrophes", fill("'")),
        ("a giant integer", format!("a = {}", fill("9"))),
        ("a giant float", format!("a = 1e{}", fill("9"))),
        ("a giant hexadecimal", format!("a = 0x{}", fill("f"))),
        ("a giant text", format!("a = \"{}\"", fill("x"))),
        ("a giant key", format!("{} = 1", fill("k"))),
        ("a giant comment", format!("#{}", fill("x"))),
        ("escapes", format!("a = \"{}\"", fill("\\u00e9"))),
        ("bad escapes", format!("a = \"{}\"", fill("\\q"))),
        ("NULs", fill("\0")),
        ("carriage returns", fill("\r")),
        ("line feeds", fill("\n")),
        ("wide characters", fill("😀")),
        ("overrides of direction", format!("a = '{}'", fill("\u{202e}"))),
    ]
}

#[test]
fn specs_are_answered_in_bounded_time() {
    for (name, text) in texts(250_000) {
        let began = cpu_time();
        let found = spec::parse(&text).map(drop).expect_err(name);
        assert!(found.len() <= 101, "{name}: {} mistakes", found.len());
        let shown = report::render(&found, "mlbuild.toml", &text, false);
        let took = cpu_time() - began;
        assert!(shown.len() < 500_000, "{name}: {} bytes are shown", shown.len());
        assert!(took < PATIENCE, "{name}: {took:?}");
    }
}

#[test]
fn locks_are_answered_in_bounded_time() {
    for (name, text) in texts(1_000_000) {
        let text = format!("version = 1\n{text}");
        let began = cpu_time();
        let error = lock::read(&text).map(drop).expect_err(name).to_string();
        let took = cpu_time() - began;
        assert!(error.len() < 100_000, "{name}: {} bytes are said", error.len());
        assert!(took < PATIENCE, "{name}: {took:?}");
    }
}

/// A lock and a spec that have nothing in common.
#[test]
fn long_lists_are_compared_in_bounded_time() {
    let inputs = |from: usize| lock::Inputs {
        requirements: (from..from + 100_000).map(|n| format!("p{n}==1")).collect(),
        debian_packages: (from..from + 100_000).map(|n| format!("p{n}")).collect(),
        indexes: (from..from + 100_000).map(|n| format!("https://i{n}.example/")).collect(),
        ..lock::Inputs::default()
    };
    let began = cpu_time();
    assert_eq!(lock::drift(&inputs(0), &inputs(50_000)).len(), 300_000);
    let took = cpu_time() - began;
    assert!(took < PATIENCE, "{took:?}");
}

/// As many files, names and directories as a wheel of a megabyte may have: a look at each name in each directory of each
/// file would take minutes.
#[test]
fn needs_of_libraries_are_followed_in_bounded_time() {
    let path = |text: &str| TreePath::new(text).unwrap();
    let facts = |needed: Vec<String>, runpath: Vec<String>| ElfFacts {
        class64: true,
        machine: 62,
        soname: None,
        needed,
        runpath,
        interp: None,
    };
    let names = |kind: &str| (0..2048).map(|n| format!("lib{kind}{n}.so")).collect::<Vec<_>>();
    let runpath = |file: usize| (0..256).map(|n| format!("$ORIGIN/../{file}/./{n}")).collect::<Vec<_>>();
    for kind in ["absent", "elsewhere", "linked"] {
        let users = (0..100).map(|n| (path(&format!("opt/a{n}/user.so")), facts(names(kind), runpath(n))));
        let others = names("elsewhere").into_iter();
        let others = others.map(|name| (path(&format!("srv/{name}")), facts(Vec::new(), Vec::new())));
        let files: Vec<_> = users.chain(others).collect();
        let link =
            |(n, name): (usize, String)| (path(&format!("lnk/{name}")), format!("../srv/libelsewhere{n}.so"));
        let links: BTreeMap<_, _> = names("linked").into_iter().enumerate().map(link).collect();
        let began = cpu_time();
        let missing = elf::audit(&files, &links, &[], Platform::LinuxAmd64, &|| true).unwrap();
        let took = cpu_time() - began;
        assert!(
            missing.len() == 2048 && missing.iter().all(|library| library.needed_by.len() == 100),
            "{kind}"
        );
        assert!(took < PATIENCE, "{kind}: {took:?}");
    }
}

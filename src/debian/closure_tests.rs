//! Tests of `closure`.

use super::super::index::tests::paragraph;
use super::*;

/// `name version field: value; field: value` a line.
fn index(lines: &[&str]) -> Index {
    let text: String = lines
        .iter()
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            let (name, version) = (words.next().unwrap(), words.next().unwrap());
            let more: String = words
                .next()
                .unwrap_or_default()
                .split(';')
                .filter(|field| !field.is_empty())
                .map(|field| format!("{}\n", field.trim()))
                .collect();
            paragraph(name, version, &more)
        })
        .collect();
    Index::read(text.as_bytes()).unwrap()
}

fn solve(indexes: &[Index], base: &[&str], python: &[&str], pins: &[(&str, &str)]) -> String {
    let roots = Roots { base: base.to_vec(), python: python.to_vec(), pins: pins.iter().copied().collect() };
    match close(indexes, "amd64", &roots) {
        Ok(closure) => closure
            .values()
            .map(|chosen| {
                let layer = if chosen.base { "" } else { "*" };
                format!("{}{layer}={}", chosen.package.name, chosen.package.version)
            })
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn newest_versions_and_first_alternatives() {
    let indexes = [
        index(&["app 1 Depends: lib (>= 2), xx | yy:any", "lib 1", "lib 2", "yy 1", "zz 1"]),
        index(&["lib 2.1"]),
    ];
    assert_eq!(solve(&indexes, &["app"], &[], &[]), "app=1 lib=2.1 yy=1");
    assert_eq!(solve(&indexes, &["app"], &["zz"], &[]), "app=1 lib=2.1 yy=1 zz*=1");
    assert_eq!(solve(&indexes, &["app"], &["lib"], &[("lib", "2")]), "app=1 lib=2 yy=1");
    assert_eq!(solve(&indexes, &["app"], &[], &[("lib", "1")]), "app=1 lib=2.1 yy=1");
    assert_eq!(solve(&indexes, &["ap"], &[], &[]), "no package is called `ap` (did you mean `app`?)");
}

#[test]
fn pins_that_do_not_fit_are_given_up_alone() {
    let indexes = [index(&[
        "app 2 Depends: lib (= 2)",
        "app 1 Depends: lib (= 1)",
        "lib 1",
        "lib 2",
        "other 1",
        "other 2",
    ])];
    let pins = [("lib", "1"), ("other", "1")];
    assert_eq!(solve(&indexes, &["app", "lib", "other"], &[], &pins), "app=2 lib=2 other=1");
    let pins = [("lib", "1"), ("app", "1"), ("other", "1")];
    assert_eq!(solve(&indexes, &["app", "lib", "other"], &[], &pins), "app=1 lib=1 other=1");
}

#[test]
fn virtual_packages_follow_priority() {
    let awk = ["app 1 Depends: awk", "gawk 1 Priority: optional;Provides: awk"];
    let with = |more: &str| [index(&[awk[0], awk[1], more])];
    let mawk = with("mawk 1 Priority: required;Provides: awk");
    assert_eq!(solve(&mawk, &["app"], &[], &[]), "app=1 mawk=1");
    assert_eq!(solve(&mawk, &["app", "gawk"], &[], &[]), "app=1 gawk=1");
    let equal = with("mawk 1 Priority: optional;Provides: awk");
    assert_eq!(
        solve(&equal, &["app"], &[], &[]),
        "app needs `awk`, which gawk, mawk provide: add the one you want to `[base] packages`"
    );
    assert_eq!(
        solve(&equal, &["awk"], &[], &[]),
        "`awk` is a virtual package: ask for one of gawk, mawk instead"
    );
}

#[test]
fn edges_are_dropped_for_one_package_only() {
    let indexes = [index(&[
        "ca-certificates 1 Depends: openssl, debconf (>= 0.5) | debconf-2.0",
        "openssl 1",
        "app 1 Depends: openssl",
        "sys 1 Depends: usrmerge | usr-is-merged",
        "usrmerge 1",
        "usr-is-merged 1",
    ])];
    assert_eq!(solve(&indexes, &["ca-certificates"], &[], &[]), "ca-certificates=1");
    assert_eq!(solve(&indexes, &["ca-certificates", "app"], &[], &[]), "app=1 ca-certificates=1 openssl=1");
    assert_eq!(solve(&indexes, &["sys"], &[], &[]), "sys=1 usr-is-merged=1");
}

#[test]
fn what_cannot_be_is_refused() {
    let indexes = [index(&[
        "aa 1 Depends: none (>= 2)",
        "none 1",
        "bb 1 Conflicts: cc (<< 2)",
        "cc 1",
        "dd 1 Breaks: mail;Provides: mail",
        "ee 1 Provides: mail",
        "ff 1 Depends: cc (>= 2)",
    ])];
    assert_eq!(
        solve(&indexes, &["aa"], &[], &[]),
        "aa needs `none (>= 2)`, which nothing in the archive satisfies"
    );
    assert_eq!(
        solve(&indexes, &["bb", "cc"], &[], &[]),
        "bb conflicts with cc (`cc (<< 2)`): leave one of them out"
    );
    assert_eq!(solve(&indexes, &["dd"], &[], &[]), "dd=1");
    assert_eq!(
        solve(&indexes, &["dd", "ee"], &[], &[]),
        "dd conflicts with ee (`mail`): leave one of them out"
    );
    assert_eq!(solve(&indexes, &["cc", "ff"], &[], &[]), "ff needs `cc (>= 2)`, but cc 1 is chosen");
}

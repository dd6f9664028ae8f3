//! `mlbuild doctor` on this machine.

use crate::support::mlbuild::{PROGRAM, Project};
use crate::support::skip::{Skip, or_skip, skip};
use crate::support::tool::{is_root, tool};

/// State of what was tried, by name.
fn states(report: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| (text(&finding["what"]), text(&finding["state"]))).collect()
}

#[test]
fn the_report_and_the_exit_status_agree() {
    let project = Project::empty();
    let report = project.mlbuild(&["doctor", "--json"]).run();
    let json = report.json();
    let works = json["works"].as_bool().unwrap();
    assert_eq!(report.status(), if works { 0 } else { 6 }, "{}", report.stdout());
    let text = project.mlbuild(&["doctor"]).run();
    assert_eq!(text.status(), report.status());
    for (what, state) in states(&json) {
        let sign = match state.as_str() {
            "ok" => "ok  ",
            "limited" => "note",
            _ => "FAIL",
        };
        assert!(text.stdout().contains(&format!("{sign}  {what}")), "{what}\n{}", text.stdout());
    }
    assert!(!works || text.stdout().ends_with("`mlbuild run` works here.\n"));
    let facts = project.mlbuild(&["doctor", "--facts"]).ok().json();
    let tried = facts["attempt"]["proc"]["is"].as_str().unwrap();
    assert_eq!(tried == "works", works, "the last thing that is tried: {facts}");
    assert!(!project.store().exists(), "it needs no store");
}

/// What it tried and found working does work, by the word of `unshare`.
#[test]
fn an_ordinary_user_is_told_the_same_as_unshare_finds() {
    or_skip!("doctor as another user", tool("setpriv"));
    or_skip!("doctor as another user", tool("unshare"));
    if !is_root() {
        return skip("doctor as another user", &Skip("only root can become another user".to_owned()));
    }
    let project = Project::empty();
    let program = project.home().join("mlbuild");
    std::fs::copy(PROGRAM, &program).unwrap();
    let open = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(&project.home());
    open(project.home().parent().unwrap());
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let report = crate::support::mlbuild::Run::new(&program).args(&["doctor", "--json"]).under(&user).run();
    let json = report.json();
    let state =
        |wanted: &str| states(&json).into_iter().find(|(what, _)| what == wanted).map(|(_, state)| state);
    let unshare = crate::support::mlbuild::Run::new("unshare")
        .args(&["--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "--mount-proc", "true"])
        .under(&user)
        .run();
    let expected = if unshare.status() == 0 { "ok" } else { "problem" };
    assert_eq!(
        state("user namespaces").as_deref(),
        Some(expected),
        "{}\n{}",
        report.stdout(),
        unshare.stderr()
    );
    if unshare.status() == 0 {
        assert_eq!(state("/proc").as_deref(), Some("ok"), "{}", report.stdout());
    }
    assert_eq!(state("--memory").as_deref(), Some("limited"), "nobody gave it a part: {}", report.stdout());
}

//! `mlbuild doctor`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::Exit;
use crate::cli::args::{Doctor as Args, DoctorPart};
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::sandbox::discover;
use crate::sandbox::probe::{self, Attempt, Finding, State};

pub fn run(args: &Args) -> Result<Exit, Failure> {
    match args.part {
        Some(DoctorPart::Attempt) => {
            // In the namespaces of the caller, which this process leaves.
            let mapper = started(DoctorPart::Map)?;
            out::json(&probe::attempt(
                || said_by(mapper).unwrap_or_default(),
                || started(DoctorPart::Proc).and_then(said_by).unwrap_or_default(),
            ));
            Ok(Exit::Success)
        }
        Some(DoctorPart::Map) => {
            // Not before it is asked for.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            out::json(&probe::attempt_map());
            Ok(Exit::Success)
        }
        Some(DoctorPart::Proc) => {
            out::json(&probe::attempt_proc());
            Ok(Exit::Success)
        }
        None => report(args),
    }
}

#[derive(Serialize)]
struct Report {
    /// A run with nothing special works.
    works: bool,
    findings: Vec<Finding>,
}

fn report(args: &Args) -> Result<Exit, Failure> {
    let attempt: Attempt = started(DoctorPart::Attempt).and_then(said_by)?;
    #[expect(clippy::disallowed_methods, reason = "where the user's own CDI files are")]
    let [config, home] = ["XDG_CONFIG_HOME", "HOME"].map(|name| std::env::var_os(name).map(PathBuf::from));
    let facts = probe::gather(attempt, &discover::cdi_directories(config.as_deref(), home.as_deref()));
    if args.facts {
        out::json(&facts);
        return Ok(Exit::Success);
    }
    let findings = probe::judge(&facts);
    let works = findings.iter().all(|finding| finding.state < State::Problem);
    if args.json {
        out::json(&Report { works, findings });
    } else {
        out::print(format_args!("{}", text(&findings, works)));
    }
    Ok(if works { Exit::Success } else { Exit::Host })
}

fn text(findings: &[Finding], works: bool) -> String {
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut said = None;
    for finding in findings {
        let sign = match finding.state {
            State::Ok => "ok  ",
            State::Limited => "note",
            State::Problem => "FAIL",
        };
        text += &format!("{sign}  {:<width$}  {}\n", finding.what, on_one_line(&finding.detail));
        // One remedy for several things stands below the first of them.
        if let Some(fix) = finding.fix.as_ref().filter(|fix| said != Some(*fix)) {
            said = Some(fix);
            text += &format!("      {:<width$}  fix: {}\n", "", on_one_line(fix));
        }
    }
    text += match works {
        true => "`mlbuild run` works here.\n",
        false => "`mlbuild run` does not work here.\n",
    };
    text
}

fn failed(source: std::io::Error) -> Failure {
    Failure::Io { what: "cannot try what this host allows".into(), source }
}

/// This very program, asked for a part: a process that has left its namespaces cannot go on.
fn started(part: DoctorPart) -> Result<Child, Failure> {
    // Found wherever the program lies, and even where something else is mounted by now.
    #[expect(clippy::disallowed_methods, reason = "it is this program")]
    let mut command = Command::new("/proc/self/exe");
    command.args(["doctor", "--part", part.name()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().map_err(failed)
}

/// What it says when its input ends.
fn said_by<T: DeserializeOwned>(process: Child) -> Result<T, Failure> {
    let output = process.wait_with_output().map_err(failed)?;
    serde_json::from_slice(&output.stdout).map_err(|error| failed(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_and_a_fix_below() {
        let finding = |what, state, fix: Option<&str>| Finding {
            what,
            state,
            detail: "words".to_owned(),
            fix: fix.map(str::to_owned),
        };
        let findings = [
            finding("kernel", State::Ok, None),
            finding("a longer thing", State::Limited, Some("do\nthis")),
            finding("x", State::Problem, Some("do that")),
            finding("y", State::Limited, Some("do that")),
        ];
        let expected = "\
ok    kernel          words
note  a longer thing  words
                      fix: do this
FAIL  x               words
                      fix: do that
note  y               words
`mlbuild run` does not work here.
";
        assert_eq!(text(&findings, false), expected);
        assert!(text(&findings[..1], true).ends_with("words\n`mlbuild run` works here.\n"));
    }
}

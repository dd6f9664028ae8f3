//! `mlbuild prepare`, which only `mlbuild run` calls: builds what has to be built and unpacks its layers, with all
//! threads, and prints the digest of the image's manifest. See [`super::run`] for why it is another process.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::Session;
use super::run::Source;
use crate::cli::args::Prepare as Args;
use crate::cli::exit::{Exit, RunStatus};
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::engine::{BuildRequest, Project};
use crate::oci::Platform;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    // Who asked for it is gone then.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let (engine, progress) = session.engine(false, None)?;
    let work = || -> Result<_, Failure> {
        let source = match Source::new(args.image.as_deref(), args.spec.as_deref()) {
            Source::Spec(path) => {
                let project = Project::open(&path)?;
                // The name stands for all platforms of the spec.
                let anonymous = project.spec.image.platforms.len() > 1;
                let platforms = vec![Platform::HOST];
                let request = BuildRequest { platforms, anonymous, ..BuildRequest::default() };
                Source::Image(engine.build(&project, &request)?.digest.to_string())
            }
            source => source,
        };
        let image = source.image(engine.store())?;
        engine.trees(&image)?;
        Ok(image.digest)
    };
    let result = work();
    let _ = progress.finish();
    out::line(format_args!("{}", result?));
    Ok(Exit::Success)
}

/// Lets another process do it and returns the digest of the manifest. What it says goes where ours goes; signals that ask
/// to stop are passed on to it.
pub(super) fn ask(session: &Session, source: &Source) -> Result<String, Failure> {
    let failed = |source| Failure::Io { what: "cannot start mlbuild to prepare the image".into(), source };
    let program = std::env::current_exe().map_err(failed)?;
    #[expect(clippy::disallowed_methods, reason = "mlbuild itself")]
    let mut command = Command::new(program);
    command.arg("prepare").stdout(Stdio::piped()).stdin(Stdio::null());
    command.arg("--color").arg(if session.color { "always" } else { "never" });
    if let Some(home) = &session.global.home {
        command.arg("--home").arg(home);
    }
    if session.global.quiet {
        command.arg("--quiet");
    }
    match source {
        Source::Spec(path) => command.arg("--file").arg(path),
        Source::Image(text) | Source::Layout(text) => command.arg("--").arg(text),
    };
    let asked = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].map(|signal| (signal, Arc::new(AtomicBool::new(false))));
    for (signal, came) in &asked {
        signal_hook::flag::register(*signal, Arc::clone(came)).map_err(failed)?;
    }
    let mut child = command.spawn().map_err(failed)?;
    let pidfd =
        pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
    // Less than a pipe holds is ever written.
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    while poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&second)) != Ok(1) {
        for (signal, came) in &asked {
            if came.swap(false, Ordering::SeqCst)
                && let Some(signal) = Signal::from_named_raw(*signal)
            {
                let _ = pidfd_send_signal(&pidfd, signal);
            }
        }
    }
    let status = child.wait().map_err(failed)?;
    let mut said = String::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_string(&mut said).map_err(failed)?;
    }
    match status.code() {
        Some(0) => Ok(said.trim().to_owned()),
        // Stopped by a signal: as it would be without a process between.
        Some(code) if code > 128 => Err(Failure::Said(RunStatus(code as u8))),
        _ => Err(Failure::Said(RunStatus(crate::sandbox::FAILED))),
    }
}

//! `mlbuild prepare`, which only `mlbuild run` calls: builds what has to be built and unpacks its layers, with all
//! threads, and prints the digest of the image's manifest. See [`super::run`] for why it is another process.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};

use super::Session;
use super::run::Source;
use crate::cli::args::Prepare as Args;
use crate::cli::exit::{Exit, RunStatus};
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::engine::{BuildRequest, Project};
use crate::oci::Platform;
use crate::sandbox::{Caught, asks_to_end};

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
                let request = BuildRequest { platforms, anonymous, bytes: true, ..BuildRequest::default() };
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
    let mut signals = Caught::new().map_err(failed)?;
    let mut child = command.spawn().map_err(failed)?;
    let pidfd =
        pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
    let mut asked = None;
    // Less than a pipe holds is ever written.
    loop {
        let ended = {
            let mut waits = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
            match poll(&mut waits, None) {
                Ok(_) => !waits[0].revents().is_empty(),
                Err(Errno::INTR) => false,
                Err(error) => return Err(failed(error.into())),
            }
        };
        if ended {
            break;
        }
        for signal in signals.take().into_iter().filter(|signal| asks_to_end(*signal)) {
            asked = Some(signal);
            if let Some(signal) = Signal::from_named_raw(signal) {
                let _ = pidfd_send_signal(&pidfd, signal);
            }
        }
    }
    let status = child.wait().map_err(failed)?;
    let mut said = String::new();
    if let Some(mut output) = child.stdout.take() {
        output.read_to_string(&mut said).map_err(failed)?;
    }
    let stopped = |signal: i32| Failure::Said(RunStatus(128 + signal as u8));
    match (status.code(), status.signal(), asked) {
        (Some(0), _, None) => Ok(said.trim().to_owned()),
        // It came too late, or before anybody there looked.
        (Some(0), _, Some(signal)) => Err(stopped(signal)),
        (None, Some(signal), Some(asked)) if signal == asked => Err(stopped(signal)),
        (None, Some(signal), _) => Err(killed(signal)),
        // Stopped by a signal: as it would be without a process between.
        (Some(code), _, _) if code > 128 => Err(Failure::Said(RunStatus(code as u8))),
        _ => Err(Failure::Said(RunStatus(crate::sandbox::FAILED))),
    }
}

/// It has had no time to say so itself.
fn killed(signal: i32) -> Failure {
    let hint = match Signal::from_named_raw(signal) {
        Some(Signal::KILL) => {
            "the kernel does that where memory runs out (`dmesg` tells); what is done is kept, so run it again with more"
        }
        _ => "what is done is kept: run it again; if that ends so, too, it is a fault of mlbuild",
    };
    let message = format!("preparing the image was ended by signal {signal}");
    Failure::Hinted { message, hints: vec![hint.to_owned()] }
}

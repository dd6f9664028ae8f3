//! The last steps before the program: terminal, limits, user, confinement; then `execve`.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, getrlimit, ioctl_tiocsctty, setrlimit, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::channel::{Channel, Said};
use super::child::{change_ids, die_with_the_supervisor};
use super::confine::{capabilities, landlock, seccomp};
use super::error::{Doing, NOT_EXECUTABLE, NOT_FOUND, SandboxError};
use super::kernel::{self, close_on_exec_from};
use crate::launch::{Identity, Launch, Process, Rlimit};

/// Turns this process into the program, or says why not. May share its memory with another one (see [`kernel::start`]).
pub fn start(
    launch: &Launch,
    channel: &Channel,
    terminal: Option<BorrowedFd<'_>>,
) -> Result<Infallible, SandboxError> {
    let process = &launch.process;
    // A process group of its own at least; the first process of a sandbox without init is a session's leader already.
    let _ = setsid();
    standard_streams(process, terminal)?;
    for limit in &process.rlimits {
        set_limit(limit, channel)?;
    }
    let _ = umask(Mode::from_raw_mode(0o022));
    let keep = process.capabilities.iter().filter_map(|name| capabilities::named(name)).collect();
    // An ordinary user's process is who it should be already, and stays in the caller's groups unless it is given others.
    let as_it_is = match launch.identity {
        Identity::Single { .. } => true,
        Identity::Subordinate { .. } => process.groups.is_empty(),
        Identity::Same | Identity::Part { .. } => false,
    };
    let change_user = || match as_it_is {
        true => Ok(()),
        false => change_ids(process.uid, process.gid, &process.groups).map_err(io::Error::other),
    };
    capabilities::keep_only(keep, change_user).doing(|| "cannot give up capabilities".into())?;
    if !process.init {
        // Other credentials have taken it away.
        die_with_the_supervisor(channel)?;
    }
    rustix::process::chdir(process.directory.as_str()).map_err(|error| SandboxError::Inside {
        message: format!(
            "cannot enter the working directory {}: {}",
            process.directory,
            io::Error::from(error)
        ),
        status: NOT_EXECUTABLE,
    })?;
    close_on_exec_from(3).doing(|| "cannot close what is open".into())?;
    let _ = landlock::restrict(landlock::writable(launch).as_deref())
        .doing(|| "cannot turn Landlock on".into())?;
    let filter = seccomp::program(!process.init).doing(|| "cannot filter system calls".into())?;
    filter.apply().doing(|| "cannot filter system calls".into())?;
    Err(execute(process))
}

fn standard_streams(process: &Process, terminal: Option<BorrowedFd<'_>>) -> Result<(), SandboxError> {
    let doing = || "cannot connect standard input and output".to_owned();
    if let Some(terminal) = terminal {
        ioctl_tiocsctty(terminal).doing(doing)?;
        dup2_stdin(terminal).doing(doing)?;
        dup2_stdout(terminal).doing(doing)?;
        return dup2_stderr(terminal).doing(doing);
    }
    if !process.interactive {
        // The sandbox's own: a bind of the host's.
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        dup2_stdin(null.doing(doing)?.as_fd()).doing(doing)?;
    }
    Ok(())
}

/// Never beyond what this host gives: that is a warning.
fn set_limit(limit: &Rlimit, channel: &Channel) -> Result<(), SandboxError> {
    let Some(resource) = resource(&limit.name) else { return Ok(()) };
    let there = getrlimit(resource);
    let set = |soft, hard| setrlimit(resource, rustix::process::Rlimit { current: soft, maximum: hard });
    if set(limit.soft, limit.hard).is_ok() {
        return Ok(());
    }
    // None is unlimited.
    let least = |wanted: Option<u64>, most: Option<u64>| match (wanted, most) {
        (Some(wanted), Some(most)) => Some(wanted.min(most)),
        (wanted, most) => wanted.or(most),
    };
    let hard = least(limit.hard, there.maximum);
    set(least(limit.soft, hard), hard).doing(|| format!("cannot set the limit {}", limit.name))?;
    let shown = hard.map_or("unlimited".to_owned(), |hard| hard.to_string());
    let warning = format!("--ulimit {}: this host allows {shown} at most", limit.name);
    let _ = channel.say(&Said::Warning(warning));
    Ok(())
}

/// By the names of `--ulimit`.
pub fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// Only comes back with a reason.
fn execute(process: &Process) -> SandboxError {
    let inside = |status, message| SandboxError::Inside { message, status };
    let Some(program) = process.arguments.first() else {
        return inside(NOT_FOUND, "there is no program to run".to_owned());
    };
    let texts = |texts: &[String]| texts.iter().map(|text| CString::new(text.as_str())).collect();
    let (arguments, environment): (Vec<_>, Vec<_>) =
        match (texts(&process.arguments), texts(&process.environment)) {
            (Ok(arguments), Ok(environment)) => (arguments, environment),
            _ => {
                return inside(
                    NOT_EXECUTABLE,
                    "an argument or a variable has a NUL character in it".to_owned(),
                );
            }
        };
    let path = process.environment.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = None;
    for candidate in candidates(program, path) {
        let Ok(file) = CString::new(candidate.as_os_str().as_encoded_bytes()) else { continue };
        let error = kernel::execute(&file, &arguments, &environment);
        match error.kind() {
            io::ErrorKind::NotFound if !candidate.exists() => {}
            io::ErrorKind::NotFound => {
                let message =
                    format!("cannot execute {}: its interpreter is not in the image", candidate.display());
                return inside(NOT_FOUND, message);
            }
            io::ErrorKind::NotADirectory => {}
            _ => denied = denied.or(Some((candidate, error))),
        }
    }
    match denied {
        Some((candidate, error)) => {
            inside(NOT_EXECUTABLE, format!("cannot execute {}: {error}", candidate.display()))
        }
        None if program.contains('/') => inside(NOT_FOUND, format!("there is no {program} in the image")),
        None => inside(NOT_FOUND, format!("there is no program `{program}` in the image's PATH ({path})")),
    }
}

/// Where a program may be: with a slash in its name there and nowhere else.
fn candidates(program: &str, path: &str) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![PathBuf::from(program)];
    }
    // An empty part stands for the working directory (POSIX), which nobody wants.
    path.split(':').filter(|part| !part.is_empty()).map(|part| Path::new(part).join(program)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_as_a_shell_does() {
        let all = |program, path| -> Vec<String> {
            candidates(program, path).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(all("python", "/usr/local/bin:/usr/bin"), ["/usr/local/bin/python", "/usr/bin/python"]);
        assert_eq!(all("./run", "/usr/bin"), ["./run"]);
        assert_eq!(all("x", "::/bin:"), ["/bin/x"]);
        assert!(all("x", "").is_empty());
    }
}

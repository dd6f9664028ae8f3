//! Mounts of the user's that meet those of the GPUs' driver.
//!
//! What the driver needs comes in after the user's file systems in memory, and before the user's volumes: it must not be
//! written to a disk of the host's. So a volume may lie over some of it. Targets are compared as they are written; what
//! the image's links make of them is seen when the steps are carried out ([`Step::Check`]).

use std::path::Path;

use super::plan::LaunchError;
use super::{Step, Tmpfs, Volume};

/// Refuses what would take something of the driver's away; warns where that is a service of the host's, such as a socket.
pub fn judge(volumes: &[Volume], tmpfs: &[Tmpfs], driver: &[Step]) -> Result<Vec<String>, LaunchError> {
    let mut warnings = Vec::new();
    for volume in volumes {
        let over = || format!("the volume {} on {}", volume.source.display(), volume.target);
        for step in driver {
            let Ok(below) = Path::new(step.target()).strip_prefix(&volume.target) else { continue };
            let under = || format!("{} of the GPU's driver", step.target());
            match step {
                Step::Directory { .. } => {}
                // The same comes with the volume.
                Step::Bind { source, .. } if *source == volume.source.join(below) => {}
                Step::Bind { how, .. } if !how.read_only && !how.device => {
                    warnings.push(format!("{} hides {}", over(), under()));
                }
                _ => return Err(LaunchError::Hidden { over: over(), under: under() }),
            }
        }
    }
    for tmpfs in tmpfs {
        for step in driver {
            if let Step::Mount { target, .. } = step
                && Path::new(&tmpfs.target).starts_with(target)
            {
                let over = format!("the GPU's driver in {target}");
                return Err(LaunchError::Hidden { over, under: format!("the tmpfs on {}", tmpfs.target) });
            }
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{BindOptions, FileSystem};

    fn judged(volumes: &[&str], tmpfs: &[&str], driver: &[Step]) -> Result<Vec<String>, String> {
        let base = Path::new("/");
        let volumes: Vec<_> = volumes.iter().map(|text| Volume::parse(text, base).unwrap()).collect();
        let tmpfs: Vec<_> = tmpfs.iter().map(|text| Tmpfs::parse(text).unwrap()).collect();
        judge(&volumes, &tmpfs, driver).map_err(|error| error.to_string())
    }

    fn driver() -> Vec<Step> {
        let bind = |path: &str, how| Step::Bind { target: path.into(), source: path.into(), how };
        let plain = BindOptions::default();
        let memory = FileSystem::Tmpfs { size: None, mode: 0o755, no_exec: false };
        vec![
            bind("/dev/nvidia0", BindOptions { device: true, ..plain }),
            Step::Directory { target: "/dev/dri".into(), mode: 0o755 },
            Step::Mount { target: "/run/mlbuild/nvidia".into(), what: memory },
            bind("/usr/lib/libcuda.so.580.95.05", BindOptions { read_only: true, ..plain }),
            Step::Data { target: "/etc/ld.so.cache".into(), mode: 0o644, content: vec![] },
            bind("/tmp/nvidia-mps", plain),
            Step::Cover {
                target: "/proc/driver/nvidia/params".into(),
                with: "/run/mlbuild/nvidia/params".into(),
            },
        ]
    }

    #[test]
    fn volumes_over_the_driver() {
        for (volume, over, under) in [
            ("/srv/run:/run", "/srv/run on /run", "/run/mlbuild/nvidia"),
            ("/srv/run:/run/mlbuild", "/srv/run on /run/mlbuild", "/run/mlbuild/nvidia"),
            ("/etc:/etc:ro", "/etc on /etc", "/etc/ld.so.cache"),
            ("/x:/etc/ld.so.cache", "/x on /etc/ld.so.cache", "/etc/ld.so.cache"),
            ("/opt/lib:/usr/lib", "/opt/lib on /usr/lib", "/usr/lib/libcuda.so.580.95.05"),
            ("/x:/dev/nvidia0", "/x on /dev/nvidia0", "/dev/nvidia0"),
            ("/x:/proc/driver", "/x on /proc/driver", "/proc/driver/nvidia/params"),
        ] {
            let said =
                format!("the volume {over} hides {under} of the GPU's driver: mount it on another directory");
            assert_eq!(judged(&["/a:/b", volume], &[], &driver()), Err(said), "{volume}");
        }
    }

    #[test]
    fn volumes_beside_the_driver_or_with_the_same_in_them() {
        for volume in [
            "/a:/run/user",
            "/a:/runs",
            "/a:/etc/ssl",
            "/a:/dev/dri",
            "/usr/lib:/usr/lib",
            "/tmp:/tmp",
            "/a:/tmp/x",
        ] {
            assert_eq!(judged(&[volume], &[], &driver()), Ok(vec![]), "{volume}");
        }
        let said = "the volume /a on /tmp hides /tmp/nvidia-mps of the GPU's driver";
        assert_eq!(judged(&["/a:/tmp"], &[], &driver()), Ok(vec![said.to_owned()]));
        assert_eq!(
            judged(&["/a:/run", "/a:/etc"], &["/run/mlbuild/nvidia"], &[]),
            Ok(vec![]),
            "without GPUs"
        );
    }

    #[test]
    fn memory_under_the_driver() {
        assert_eq!(judged(&[], &["/run", "/etc", "/run/mlbuild", "/tmp"], &driver()), Ok(vec![]));
        for target in ["/run/mlbuild/nvidia", "/run/mlbuild/nvidia/lib"] {
            let said = format!(
                "the GPU's driver in /run/mlbuild/nvidia hides the tmpfs on {target}: mount it on another directory"
            );
            assert_eq!(judged(&[], &[target], &driver()), Err(said));
        }
    }
}

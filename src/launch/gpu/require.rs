//! What an image says that it needs of a driver: the variables `NVIDIA_REQUIRE_*`.
//!
//! A value is alternatives with spaces between, each a list of constraints with commas between that must all hold:
//! `cuda>=12.8 brand=tesla,driver>=535,driver<536`. All variables must be satisfied. `driver` and `cuda` (the newest
//! CUDA that the driver speaks) are judged; other properties (`brand`, `arch`) cannot be without asking the GPU, and hold.

use super::error::GpuError;

/// The newest CUDA that each branch of drivers speaks. Of one that is newer than all of these anything is believed.
const BRANCHES: [(u64, (u64, u64)); 24] = [
    (450, (11, 0)),
    (455, (11, 1)),
    (460, (11, 2)),
    (465, (11, 3)),
    (470, (11, 4)),
    (495, (11, 5)),
    (510, (11, 6)),
    (515, (11, 7)),
    (520, (11, 8)),
    (525, (12, 0)),
    (530, (12, 1)),
    (535, (12, 2)),
    (545, (12, 3)),
    (550, (12, 4)),
    (555, (12, 5)),
    (560, (12, 6)),
    (565, (12, 7)),
    (570, (12, 8)),
    (575, (12, 9)),
    (580, (13, 0)),
    (590, (13, 1)),
    (595, (13, 2)),
    (610, (13, 3)),
    (615, (13, 4)),
];
/// The first branch that this table does not know.
const UNKNOWN: u64 = 616;

/// Judges the driver by `environment`, `NAME=value` each, the image's and the user's.
pub fn check(environment: &[String], driver: &str) -> Result<(), GpuError> {
    let variables = || environment.iter().filter_map(|variable| variable.split_once('='));
    if variables().any(|(name, value)| name == "NVIDIA_DISABLE_REQUIRE" && matches!(value, "true" | "1")) {
        return Ok(());
    }
    for (name, value) in variables().filter(|(name, _)| name.starts_with("NVIDIA_REQUIRE_")) {
        let mut alternatives = value.split_whitespace().peekable();
        let Some(first) = alternatives.peek().map(|first| (*first).to_owned()) else { continue };
        if !alternatives.any(|all| all.split(',').all(|constraint| holds(constraint, driver))) {
            return Err(GpuError::Requirement {
                variable: name.to_owned(),
                wanted: first,
                driver: driver.to_owned(),
                cuda: cuda(driver).map(|(major, minor)| format!("{major}.{minor}")),
            });
        }
    }
    Ok(())
}

fn holds(constraint: &str, driver: &str) -> bool {
    let Some(at) = constraint.find(['<', '>', '=', '!']) else { return true };
    let (property, rest) = constraint.split_at(at);
    let value = rest.trim_start_matches(['<', '>', '=', '!']);
    let wanted = numbers(value);
    let found = match property {
        "driver" => numbers(driver),
        "cuda" => match cuda(driver) {
            Some((major, minor)) => vec![major, minor],
            None => return true,
        },
        _ => return true,
    };
    // `12` and `12.0` are one version.
    let length = found.len().max(wanted.len());
    let pad = |mut numbers: Vec<u64>| {
        numbers.resize(length, 0);
        numbers
    };
    let (found, wanted) = (pad(found), pad(wanted));
    match &rest[..rest.len() - value.len()] {
        ">=" => found >= wanted,
        "<=" => found <= wanted,
        ">" => found > wanted,
        "<" => found < wanted,
        "=" | "==" => found == wanted,
        "!=" => found != wanted,
        _ => true,
    }
}

/// None for a driver newer than this table.
fn cuda(driver: &str) -> Option<(u64, u64)> {
    let branch = numbers(driver).first().copied().unwrap_or(0);
    if branch >= UNKNOWN {
        return None;
    }
    let known = BRANCHES.iter().rev().find(|(known, _)| *known <= branch);
    Some(known.map_or((10, 0), |(_, cuda)| *cuda))
}

fn numbers(version: &str) -> Vec<u64> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn satisfied(value: &str, driver: &str) -> bool {
        check(&[format!("NVIDIA_REQUIRE_CUDA={value}")], driver).is_ok()
    }

    #[test]
    fn alternatives_and_constraints() {
        // As NVIDIA's images of CUDA 12.8 say it, shortened.
        let image = "cuda>=12.8 brand=unknown,driver>=470,driver<471 brand=tesla,driver>=535,driver<536";
        for (value, driver, expected) in [
            ("driver>=525.60.13", "525.60.13", true),
            ("driver>=525.60.13", "525.60.12", false),
            ("driver>=525.60.13", "535.54.03", true),
            ("driver>=580", "580.65.06", true),
            ("driver>=580", "575.57.08", false),
            ("driver>=580", "580", true),
            ("driver=580", "580.65.06", false),
            ("driver!=580.65.06", "580.65.06", false),
            ("driver<580", "580.65.06", false),
            ("driver<=580.65.06", "580.65.06", true),
            ("driver>580.65.06", "580.65.06", false),
            ("cuda>=12", "525.60.13", true),
            ("cuda>=12.0", "520.61.05", false),
            ("cuda<13", "580.65.06", false),
            ("cuda>=11", "418.1", false),
            // Newer than anything known.
            ("cuda>=99", "9999.1", true),
            (image, "570.86.15", true),
            (image, "535.183.01", true),
            (image, "550.54.14", false),
            // Meant as "and", and read as the documents say.
            ("cuda>=13.0 driver>=580.95.05", "580.65.06", true),
            ("arch=maxwell", "580.65.06", true),
            ("nonsense", "580.65.06", true),
            ("driver~580", "580.65.06", true),
            ("", "580.65.06", true),
            ("driver>=x", "580.65.06", true),
        ] {
            assert_eq!(satisfied(value, driver), expected, "{value} {driver}");
        }
    }

    #[test]
    fn every_variable_counts_unless_none_does() {
        let environment =
            |variables: &[&str]| variables.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let both = ["NVIDIA_REQUIRE_CUDA=driver>=525", "NVIDIA_REQUIRE_MINE=driver>=580"];
        assert!(check(&environment(&both), "580.65.06").is_ok());
        let error = check(&environment(&both), "570.86.15").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the image needs driver>=580 (NVIDIA_REQUIRE_MINE), the NVIDIA driver is 570.86.15, which speaks CUDA 12.8"
        );
        assert!(error.hints().concat().contains("NVIDIA_DISABLE_REQUIRE=true"));
        let off = [both[0], both[1], "NVIDIA_DISABLE_REQUIRE=true"];
        assert!(check(&environment(&off), "570.86.15").is_ok());
        assert!(check(&environment(&["PATH=/bin", "odd"]), "1.0").is_ok());
    }
}

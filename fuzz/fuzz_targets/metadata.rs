//! The small texts of `.dist-info`, and a wheel's file name. Values are single lines of the text; what entry points
//! paste into a Python program is identifiers, and their names are names of files.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::entry_points;
use mlbuild_fuzz::filename::{FileName, normal_name, normal_version, same_version};
use mlbuild_fuzz::metadata::{Metadata, WheelFile};

fuzz_target!(|text: &str| {
    let metadata = Metadata::parse(text);
    for value in [&metadata.name, &metadata.version].into_iter().flatten() {
        assert!(!value.is_empty() && value.trim() == value && !value.contains('\n'), "{value:?}");
        assert!(text.contains(value.as_str()));
        assert_eq!(normal_name(&normal_name(value)), normal_name(value));
        assert!(same_version(value, value), "{value:?} is not its own version");
        let normal = normal_version(value);
        assert_eq!(normal_version(&normal), normal, "{value:?}");
    }
    let wheel = WheelFile::parse(text);
    assert_eq!(wheel, WheelFile::parse(&text.replace('\n', "\r\n").replace("\r\r\n", "\r\n")));

    if let Some(file) = text.lines().next().and_then(FileName::parse) {
        assert!(!file.name.contains('/') && file.name == normal_name(&file.name), "{file:?}");
        assert!(!file.version.is_empty() && !file.version.contains('-'));
    }
    let Ok(scripts) = entry_points::parse(text, (3, 12)) else { return };
    for (at, script) in scripts.iter().enumerate() {
        assert!(!script.name.contains(['/', '\0', '\n']) && !matches!(script.name.as_str(), "" | "." | ".."));
        assert!(
            scripts[..at].iter().all(|other| other.name != script.name),
            "{} is there twice",
            script.name
        );
        let launcher = entry_points::launcher(script, "/usr/bin/python3.12");
        let plain = entry_points::launcher(
            &entry_points::Script { name: "a".into(), module: "a".into(), object: "a".into() },
            "/usr/bin/python3.12",
        );
        assert_eq!(launcher.lines().count(), plain.lines().count(), "{launcher}");
        for word in [&script.module, &script.object] {
            assert!(word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.')), "{word:?}");
        }
    }
});

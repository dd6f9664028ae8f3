//! Locks: what is accepted is written and read as the same again, byte for byte; it satisfies itself, differs in nothing
//! from itself, and can be planned for each of its platforms.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz::debian::release::parse_rfc3339;
use mlbuild_fuzz::epoch::Epoch;
use mlbuild_fuzz::lock;
use mlbuild_fuzz::plan::{PlanOptions, plan};
use mlbuild_fuzz::tree::TreePath;

fuzz_target!(|text: &str| {
    let read = match lock::read(text) {
        Ok(read) => read,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let written = lock::write(&read);
    let again = lock::read(&written).expect("what is written is read");
    assert_eq!(again, read);
    assert_eq!(lock::write(&again), written);
    let mut normal = read.clone();
    normal.normalise();
    assert_eq!(normal, read, "a lock that is not sorted was accepted");

    assert!(lock::drift(&read.inputs, &read.inputs).is_empty());
    assert!(lock::diff(&read, &again).is_empty());
    for suite in &read.suites {
        parse_rfc3339(&suite.date);
    }
    for wheel in read.packages.iter().flat_map(|package| &package.wheels) {
        assert!(TreePath::new(&wheel.name).is_ok() && !wheel.name.contains('/'), "{:?}", wheel.name);
    }
    for &platform in &read.inputs.platforms {
        for max_layers in [8, 120] {
            let options = PlanOptions { platform, epoch: Epoch::default(), max_layers };
            if let Ok(made) = plan(&read, &options) {
                let other = plan(&read, &options).expect("as before");
                let keys = |plan: &mlbuild_fuzz::plan::Plan| -> Vec<_> {
                    plan.layers.iter().map(|layer| layer.key).collect()
                };
                assert_eq!(keys(&made), keys(&other));
                assert_eq!(made.wheel_set, other.wheel_set);
            }
        }
    }
});

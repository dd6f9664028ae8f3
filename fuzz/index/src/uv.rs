use std::collections::BTreeSet;

use uv_distribution_types::Resolution as UvResolution;

use super::{Resolution, ResolveError};

#[path = "../../../src/resolve/uv/answer.rs"]
mod answer;

/// What a lock gets to see of uv's answer.
pub fn read(resolution: &UvResolution) -> Result<Resolution, ResolveError> {
    answer::read(resolution, &BTreeSet::new())
}

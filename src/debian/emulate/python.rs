//! python3-minimal, without the package: the names `python3` and `python`, and the directory for what pip would
//! install, which enters `sys.path` only if it exists.

use super::{EmulateError, Root};
use crate::spec::model::Suite;

pub fn add(root: &mut Root<'_>, suite: Suite) -> Result<(), EmulateError> {
    let (major, minor) = suite.python();
    let name = format!("python{major}.{minor}");
    if root.file(&format!("usr/bin/{name}")).is_none() {
        return Ok(());
    }
    root.add_link("usr/bin/python3", &name)?;
    root.add_link("usr/bin/python", "python3")?;
    root.add_directory(&format!("usr/local/lib/{name}/dist-packages"), 0o755)
}

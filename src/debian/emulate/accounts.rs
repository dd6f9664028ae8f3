//! base-passwd: users and groups, and the one that images run as.
//!
//! Debian's masters have `*` for a password, so there is no shadow file. `nonroot` is 65532:65532, as other minimal
//! images have it. Owners in a layer are always 0:0, hence its home directory is open to all, as `/tmp` is.

use super::{EmulateError, Root};

const NONROOT_USER: &str = "nonroot:*:65532:65532:nonroot:/home/nonroot:/usr/sbin/nologin\n";
const NONROOT_GROUP: &str = "nonroot:*:65532:\n";

/// Without base-passwd.
const FEW_USERS: &str = "root:*:0:0:root:/root:/bin/bash\n\
    nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const FEW_GROUPS: &str = "root:*:0:\nnogroup:*:65534:\n";

pub fn add(root: &mut Root<'_>) -> Result<(), EmulateError> {
    for (master, few, more, path) in [
        ("usr/share/base-passwd/passwd.master", FEW_USERS, NONROOT_USER, "etc/passwd"),
        ("usr/share/base-passwd/group.master", FEW_GROUPS, NONROOT_GROUP, "etc/group"),
    ] {
        let mut text = root.read(master)?.unwrap_or_else(|| few.into());
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(more.as_bytes());
        root.add_file(path, text)?;
    }
    root.add_directory("home/nonroot", 0o1777)
}

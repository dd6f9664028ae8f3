//! What the program may not do: capabilities, new privileges, system calls.

use std::io;

use crate::launch::Launch;

/// For the first process, once it has set everything up.
pub fn drop_all_rights() -> io::Result<()> {
    Ok(())
}

/// Before the program's user is set.
pub fn before_ids(_keep: &[String]) -> io::Result<()> {
    Ok(())
}

/// After it, right before the program.
pub fn finally(_launch: &Launch, _warn: &mut dyn FnMut(String)) -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

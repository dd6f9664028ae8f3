//! Capabilities: what root may do beside others, in some forty pieces.
//!
//! A process has them in five sets, and each has a way back into the others: a program that is started takes from the
//! bounding set if it belongs to root or has file capabilities, from the inheritable and the ambient set otherwise. So all
//! five are brought down to those that were asked for, the rules that give user 0 capabilities are turned off
//! (`securebits`), and no_new_privs is set: nothing that is started ever has more.
//!
//! The first process of a user namespace has all of them there. Where one has no CAP_SETPCAP all the same, bounding set and
//! securebits stay as they are; no_new_privs alone then holds what is started down to what we leave.

use std::io;

use rustix::thread::{self, CapabilitiesSecureBits as SecureBits, CapabilitySet, CapabilitySets};

/// The set of a name as people write it: `CAP_NET_RAW`, `net_raw`.
pub fn named(name: &str) -> Option<CapabilitySet> {
    let name = name.to_ascii_uppercase();
    CapabilitySet::from_name(name.strip_prefix("CAP_").unwrap_or(&name))
}

/// Gives up all capabilities but those in `keep`, for good, on this thread. What is started has those of `keep` that the
/// process has now.
///
/// `change_user` is called in between, when it still has all of them, and may change user and groups in any way: that
/// does not touch capabilities any more, nor bring one back.
pub fn keep_only(keep: CapabilitySet, change_user: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let now = thread::capabilities(None)?;
    let keep = keep & now.permitted;
    if now.effective.contains(CapabilitySet::SETPCAP) {
        lower_bounding_set(keep)?;
        thread::set_capabilities(None, CapabilitySets { inheritable: keep, ..now })?;
        thread::clear_ambient_capability_set()?;
        for capability in each(keep) {
            thread::configure_capability_in_ambient_set(capability, true)?;
        }
        thread::set_capabilities_secure_bits(
            SecureBits::NO_ROOT
                | SecureBits::NO_ROOT_LOCKED
                | SecureBits::NO_SETUID_FIXUP
                | SecureBits::NO_SETUID_FIXUP_LOCKED
                | SecureBits::KEEP_CAPS_LOCKED
                | SecureBits::NO_CAP_AMBIENT_RAISE
                | SecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
        )?;
        change_user()?;
    } else {
        change_user()?;
        thread::clear_ambient_capability_set()?;
    }
    thread::set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable: keep })?;
    thread::set_no_new_privs(true)?;
    Ok(())
}

/// Gives up all capabilities but those in `keep`, for a process that will never start a program: what a program would get
/// does not matter to it.
pub fn keep_for_oneself(keep: CapabilitySet) -> io::Result<()> {
    let now = thread::capabilities(None)?;
    let keep = keep & now.permitted;
    thread::set_no_new_privs(true)?;
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    Ok(thread::set_capabilities(None, sets)?)
}

fn lower_bounding_set(keep: CapabilitySet) -> io::Result<()> {
    for capability in each(!keep) {
        match thread::remove_capability_from_bounding_set(capability) {
            // The kernel knows none from here on.
            Err(rustix::io::Errno::INVAL) => break,
            result => result?,
        }
    }
    Ok(())
}

/// Each bit, known or not, from the lowest on.
fn each(set: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).filter(move |one| set.contains(*one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_write_them() {
        assert_eq!(named("CAP_NET_RAW"), Some(CapabilitySet::NET_RAW));
        assert_eq!(named("net_bind_service"), Some(CapabilitySet::NET_BIND_SERVICE));
        assert_eq!(named("cap_sys_admin"), Some(CapabilitySet::SYS_ADMIN));
        for wrong in ["", "CAP_", "ALL", "CAP_CAP_CHOWN", "CHOWN|KILL", "0x1"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }

    /// On a thread of its own: capabilities belong to threads.
    fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::Builder::new().spawn(work).expect("a thread can be started").join().expect("no panic")
    }

    #[test]
    fn nothing_is_left() {
        let (sets, bounding, ambient, bits, no_new_privs, again) = on_a_thread(|| {
            keep_only(CapabilitySet::empty(), || Ok(())).unwrap();
            let may_bound = |one| thread::capability_is_in_bounding_set(one).unwrap_or(false);
            (
                thread::capabilities(None).unwrap(),
                each(CapabilitySet::all()).filter(|one| may_bound(*one)).count(),
                thread::capability_is_in_ambient_set(CapabilitySet::CHOWN).unwrap(),
                thread::capabilities_secure_bits().unwrap(),
                thread::no_new_privs().unwrap(),
                thread::set_capabilities(
                    None,
                    CapabilitySets {
                        effective: CapabilitySet::CHOWN,
                        permitted: CapabilitySet::CHOWN,
                        inheritable: CapabilitySet::empty(),
                    },
                ),
            )
        });
        let none = CapabilitySet::empty();
        assert_eq!(sets, CapabilitySets { effective: none, permitted: none, inheritable: none });
        assert!(no_new_privs && !ambient);
        assert!(again.is_err(), "what is given up does not come back");
        if thread::capabilities(None).unwrap().effective.contains(CapabilitySet::SETPCAP) {
            assert_eq!(bounding, 0);
            assert!(bits.contains(SecureBits::NO_ROOT | SecureBits::NO_ROOT_LOCKED));
        }
    }

    #[test]
    fn what_is_named_stays_and_the_user_changes() {
        if !thread::capabilities(None)
            .unwrap()
            .effective
            .contains(CapabilitySet::SETPCAP | CapabilitySet::SETUID)
        {
            eprintln!("skipped: capabilities that stay: needs root");
            return;
        }
        let (sets, ambient, uid, back) = on_a_thread(|| {
            let nobody = rustix::process::Uid::from_raw(65534);
            let keep = CapabilitySet::NET_BIND_SERVICE;
            keep_only(keep, || Ok(thread::set_thread_res_uid(nobody, nobody, nobody)?)).unwrap();
            (
                thread::capabilities(None).unwrap(),
                thread::capability_is_in_ambient_set(keep).unwrap(),
                // Of the thread: `getuid` is answered by the kernel for the caller.
                rustix::process::getuid().as_raw(),
                thread::set_thread_uid(rustix::process::Uid::ROOT),
            )
        });
        let keep = CapabilitySet::NET_BIND_SERVICE;
        assert_eq!(sets, CapabilitySets { effective: keep, permitted: keep, inheritable: keep });
        assert!(ambient, "programs that are started have it");
        assert_eq!(uid, 65534);
        assert!(back.is_err());
    }
}

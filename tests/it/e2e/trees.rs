//! Reference images unpacked for a run, straight from their wheels: name by name what umoci makes of the exported layers.

use crate::faults::Namespace;
use crate::support::reference::{Reference, scratch};
use crate::support::skip::or_skip;
use crate::support::tool::tool;
use crate::trees::of_store;
use crate::trees::overlay::{differences, everything, mount, umoci};

fn unpacks(name: &str) {
    let reference = or_skip!(name, Reference::get(name));
    or_skip!("umoci", tool("umoci"));
    let namespace = or_skip!("an overlay", Namespace::new());
    let scratch = scratch();
    let trees = of_store(&reference.store, &reference.digest);
    let on = or_skip!("an overlay", mount(&namespace, &trees, scratch.path()));
    let ours = everything(&namespace.inside(&on));
    let theirs = everything(&umoci(&reference.layout, scratch.path()));
    let differences = differences(&ours, &theirs);
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    assert!(ours.len() > 1000, "only {} names were compared", ours.len());
}

#[test]
fn hello_is_what_umoci_unpacks() {
    unpacks("hello");
}

#[test]
fn sklearn_is_what_umoci_unpacks() {
    unpacks("sklearn");
}

//! Unpacked layers: images of both kinds become trees that overlayfs takes, equal to what umoci unpacks, once for all,
//! whoever is killed on the way.

mod faults;
pub mod layout;
pub mod overlay;
mod process;
mod store;

use std::path::Path;
use std::sync::Arc;

use mlbuild::engine::{Cancel, Engine, LayeredImage, Reporter, Silent};
use mlbuild::export::Layout;
use mlbuild::oci::Platform;
use mlbuild::store::{Store, Trees};

pub const PLATFORM: Platform = Platform::LinuxAmd64;

/// An engine on the store at `home`.
pub fn engine(home: &Path, reporter: Arc<dyn Reporter>, cancel: &Cancel) -> Engine {
    Engine::new(Store::open(home).unwrap(), reporter, cancel.clone(), true, Some(2))
}

pub fn quiet(home: &Path) -> Engine {
    engine(home, Arc::new(Silent), &Cancel::default())
}

/// The image of the store that has that digest, or that name without its tag.
pub fn named(store: &Store, name: &str) -> LayeredImage {
    let of_name = || store.image(&format!("{name}:latest")).unwrap().expect("the image is there").digest;
    LayeredImage::in_store(store, name.parse().unwrap_or_else(|_| of_name()), PLATFORM).unwrap()
}

/// The trees of an image of the store.
pub fn of_store(home: &Path, name: &str) -> Trees {
    let engine = quiet(home);
    let image = named(engine.store(), name);
    engine.trees(&image).unwrap_or_else(|error| panic!("{error}: {error:?}"))
}

/// The only image of a layout.
pub fn in_layout(directory: &Path) -> LayeredImage {
    let layout = Layout::open(directory).unwrap();
    let root = layout.find(None).unwrap();
    LayeredImage::in_layout(&layout, root, PLATFORM).unwrap()
}

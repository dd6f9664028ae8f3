//! mlbuild: reproducible OCI images for machine learning.

pub mod blob;
pub mod diagnostic;
pub mod digest;
pub mod epoch;
pub mod oci;
pub mod tree;

pub mod spec {
    pub mod model;
}
pub mod lock {
    pub mod model;
}

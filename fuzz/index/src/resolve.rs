#[path = "../../../src/resolve/answer.rs"]
mod answer;
#[path = "../../../src/resolve/credentials.rs"]
pub mod credentials;
#[path = "../../../src/resolve/error.rs"]
mod error;
#[path = "uv.rs"]
pub mod uv;

pub use answer::{Resolution, Resolved, WheelFile};
pub use credentials::without_credentials;
pub use error::ResolveError;

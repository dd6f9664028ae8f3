//! What this host can do for a run, and what stands in the way: `mlbuild doctor`.
//!
//! ```text
//! the host ~> Facts => Vec<Finding>
//! ```
//!
//! Facts are looked up without changing anything ([`gather`]); what the kernel really lets an ordinary process do is tried
//! by a process of our own that ends afterwards ([`attempt`]). The judgement ([`judge`]) is pure, and knows a remedy by
//! name for each thing that is missing.

mod attempt;
mod caller;
mod facts;
mod judge;

pub use attempt::{Attempt, Outcome, attempt, attempt_map, attempt_proc};
pub use caller::{caller, program};
pub use facts::{Facts, gather};
pub use judge::{Finding, State, judge};

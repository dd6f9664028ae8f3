//! What a process in the sandbox may still do to the kernel, whatever the file system and the namespaces leave open:
//! three independent walls, raised in the child in this order.
//!
//! 1. [`capabilities`]: none, or those that were asked for; no program can bring new ones.
//! 2. [`landlock`]: where the kernel has it.
//! 3. [`seccomp`]: last, because it forbids what the others need.

pub mod capabilities;
pub mod landlock;
pub mod seccomp;

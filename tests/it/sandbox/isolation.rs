//! What is shut, each shown open without the sandbox.

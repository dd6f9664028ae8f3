//! The sandbox: carries a [`Launch`](crate::launch::Launch) out, in namespaces of its own and without root.

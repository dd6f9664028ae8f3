//! Downloads against a scripted server.

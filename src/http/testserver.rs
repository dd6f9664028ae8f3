//! A scripted HTTP/1.1 server on loopback, for tests only.

//! Pages of a package index, in HTML and in JSON: see `src/resolve/uv/page_tests.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mlbuild_fuzz_index::resolve::uv::page_tests;

fuzz_target!(|bytes: &[u8]| {
    page_tests::check(bytes);
});

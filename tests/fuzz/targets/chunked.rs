//! Any bytes as a chunked body.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weir_l7::fuzz::chunked(bytes));

//! Any bytes as the head of a request.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weir_l7::fuzz::request_head(bytes));

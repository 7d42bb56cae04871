//! Any bytes as the head of an answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weir_l7::fuzz::response_head(bytes));

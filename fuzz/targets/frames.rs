//! See `choreo_apiserver::fuzz::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| choreo_apiserver::fuzz::frames(data));

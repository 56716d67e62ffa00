//! See `choreo_apiserver::fuzz::requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| choreo_apiserver::fuzz::requests(data));

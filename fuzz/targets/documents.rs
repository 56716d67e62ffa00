//! See `choreo_apiserver::fuzz::documents`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| choreo_apiserver::fuzz::documents(data));

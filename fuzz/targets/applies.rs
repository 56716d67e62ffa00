//! See `choreo_apimachinery::fuzz::applies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| choreo_apimachinery::fuzz::applies(data));

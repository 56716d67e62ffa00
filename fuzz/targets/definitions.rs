//! See `choreo_apimachinery::fuzz::definitions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| choreo_apimachinery::fuzz::definitions(data));

//! See `choreo_apimachinery::fuzz::selectors`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| choreo_apimachinery::fuzz::selectors(data));

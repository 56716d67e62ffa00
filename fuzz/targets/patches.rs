//! See `choreo_apimachinery::fuzz::patches`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| choreo_apimachinery::fuzz::patches(data));

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| aisec_fuzz::statistics::run(data));

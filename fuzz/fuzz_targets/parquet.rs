#![no_main]

// The decoders of the parquet crate may panic, which the reader catches: what gets out is a failure.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| {})),
    |data: &[u8]| aisec_fuzz::parquet::run(data)
);

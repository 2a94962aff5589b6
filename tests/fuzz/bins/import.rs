#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sql_exporter_fuzz::import(data));

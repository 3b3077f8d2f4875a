//! What the kernel answers, as bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rackpartition::netfilter::read_anything(bytes));

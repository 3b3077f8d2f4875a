//! What an agent finds on its node's disk of an earlier process, and what it does then.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rackpartition::agent::read_any_state(bytes));

//! What components, logs and the kernel's tables of a node say, as text.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rackpartition::agent::read_any_answer(bytes);
});

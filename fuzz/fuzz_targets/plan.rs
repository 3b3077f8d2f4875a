//! The plan as an agent finds it in its pod, and what the agent makes of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rackpartition::agent::read_any_plan(bytes);
});

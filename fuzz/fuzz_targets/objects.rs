//! What others wrote into a cluster's objects, or answer the operator, as text: flags, locks, URLs, a compressed snapshot.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    rackpartition::operator::read_any_object(bytes);
});

//! What a cluster may look like, as the operator writes it down and another replica reads it.
#![no_main]

use rackpartition::topology::Snapshot;
use rackpartition_fuzz::{planned, run};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(snapshot) = serde_json::from_slice::<Snapshot>(bytes) {
        planned(&run().spec, &snapshot);
    }
});

//! What people apply, with a status that somebody else may have written.
#![no_main]

use rackpartition::api::RackPartition;
use rackpartition_fuzz::{planned, snapshot};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(run) = serde_json::from_slice::<RackPartition>(bytes) {
        planned(&run.spec, &snapshot());
        if let Some(status) = run.status {
            rackpartition::report::findings_table(&status, Some(100));
        }
    }
});

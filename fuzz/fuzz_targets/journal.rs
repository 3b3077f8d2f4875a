//! What agents and operators write down, as the judge reads it: two records, one of them the operator's.
#![no_main]

use rackpartition::api::NodeRecordStatus;
use rackpartition_fuzz::{judged, run, snapshot};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok([operator, agent]) = serde_json::from_slice::<[NodeRecordStatus; 2]>(bytes) {
        judged(&run().spec, &snapshot(), operator, agent);
    }
});

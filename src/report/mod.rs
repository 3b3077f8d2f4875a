//! stub
use crate::api::*;
pub fn summary(_: &RackPartitionStatus) -> String {
    todo!()
}
pub fn text(_: &RackPartition, _: Option<u16>) -> String {
    todo!()
}
pub fn plan_text(_: &Plan) -> String {
    todo!()
}

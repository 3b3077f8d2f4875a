//! What a 404 means.

use kube::core::Status;

/// Whether this answer means that the object is gone, and not that the API server has yet to load its definition: then it
/// names no object.
pub fn is_gone(status: &Status, name: &str) -> bool {
    status.code == 404 && status.reason == "NotFound" && status.details.as_ref().is_some_and(|d| d.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_404_is_gone() {
        let status = |json| serde_json::from_value::<Status>(json).unwrap();
        let details = serde_json::json!({"name": "run", "group": "rackpartition.io", "kind": "rackpartitions"});
        let gone = status(serde_json::json!({"code": 404, "reason": "NotFound", "details": details}));
        assert!(is_gone(&gone, "run"));
        assert!(!is_gone(&gone, "other"));
        let starting = status(serde_json::json!({"code": 404, "reason": "NotFound", "details": {}}));
        assert!(!is_gone(&starting, "run"), "an API server that has not loaded the definition yet");
        let forbidden = status(serde_json::json!({"code": 403, "reason": "Forbidden", "details": details}));
        assert!(!is_gone(&forbidden, "run"));
    }
}

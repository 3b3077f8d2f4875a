//! The pinned versions of `lab/versions.env`.

use anyhow::{Context, Result};

use crate::cache;

/// The value of `key`.
///
/// # Errors
/// When the file is gone or has no such key.
pub fn get(key: &str) -> Result<String> {
    let text = cache::read("versions.env")?;
    let value = text.lines().filter_map(|line| line.split_once('=')).find(|(name, _)| *name == key);
    value.map(|(_, value)| value.to_owned()).with_context(|| format!("lab/versions.env has no {key}"))
}

/// The version of the Go module `path` that the lab builds.
///
/// # Errors
/// When `lab/upstream` requires none.
pub fn required(path: &str) -> Result<String> {
    let text = cache::read("upstream/go.mod")?;
    let mut lines = text.lines().map(|line| line.trim().trim_start_matches("require "));
    let version = lines.find_map(|line| line.strip_prefix(path)?.strip_prefix(' ')?.split(' ').next());
    version.map(str::to_owned).with_context(|| format!("lab/upstream/go.mod does not require {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_agree_with_each_other() {
        assert_eq!(required("k8s.io/kubernetes").unwrap(), get("K8S").unwrap());
        assert_eq!(required("github.com/coredns/coredns").unwrap(), get("COREDNS_TAG").unwrap());
        let etcd = required("go.etcd.io/etcd/server/v3").unwrap();
        assert!(get("ETCD_TAG").unwrap().starts_with(etcd.trim_start_matches('v')));
        assert!(required("sigs.k8s.io/kind").unwrap().starts_with('v'));
    }
}

//! Which nodes keep a register, and whose all of them read.

use super::RunPlan;

impl RunPlan {
    /// Nodes with an API server and an agent beside it.
    pub fn registers(&self) -> impl Iterator<Item = &str> {
        let agents = self.agents();
        self.api_servers.iter().map(|s| s.name.as_str()).filter(move |name| agents.contains(name))
    }

    /// The one whose register all of them read: on the side that stays writable, so that something is written there during the cut.
    /// Where there is no such side, any.
    pub fn register_to_read(&self) -> Option<&str> {
        let is_writable = |name: &&str| self.writable.iter().any(|w| w == name);
        self.registers().find(is_writable).or_else(|| self.registers().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(writable: &[&str]) -> RunPlan {
        let member =
            |name: &str, agent: bool| json!({"name": name, "hasAgent": agent, "cidrs": [], "healAddresses": []});
        let server = |name: &str| json!({"name": name, "address": "198.18.0.1:6443"});
        serde_json::from_value(json!({
            "run": "r", "runUid": "u", "edges": [], "heal": {"port": 1, "token": "00"}, "durationSeconds": 1.0,
            "longestSeconds": 1.0, "probes": [],
            "members": [member("cp1", true), member("cp2", true), member("w1", true), member("lb", false)],
            "apiServers": [server("lb"), server("cp1"), server("cp2"), server("198.18.0.9:6443")], "writable": writable,
        }))
        .unwrap()
    }

    #[test]
    fn the_register_to_read_is_on_the_side_that_stays_writable() {
        assert_eq!(plan(&[]).registers().collect::<Vec<_>>(), ["cp1", "cp2"]);
        let read = |writable: &[&str]| plan(writable).register_to_read().unwrap().to_owned();
        assert_eq!([read(&["lb", "cp2"]), read(&["cp1"]), read(&[])], ["cp2", "cp1", "cp1"]);
        let nobody = RunPlan { api_servers: Vec::new(), ..plan(&["cp1"]) };
        assert_eq!(nobody.register_to_read(), None);
    }
}

//! Shapes of four and five members, wherever the leader was: theory §7.

use super::*;

/// Quorum and writability of each side, with this node leading when the cluster was looked at.
fn led_by(leader: usize, racks: &[usize], cut: Value) -> Vec<(bool, Prospect)> {
    let mut snapshot = cluster(racks, racks.len());
    snapshot.etcd[leader].leads = Some(true);
    let fault = expand(&spec(cut), &snapshot).unwrap();
    sides(&snapshot, &fault).into_iter().map(|s| (s.quorum, s.writable)).collect()
}

#[test]
fn in_a_star_a_leaf_that_led_follows_the_hub() {
    for racks in [&[0, 1, 2, 3][..], &[0, 1, 2, 3, 4]] {
        // The hub hears the old leader to its end, so it has all that it had.
        let expected: Vec<_> = racks.iter().map(|rack| (*rack == 1, Prospect::Yes)).collect();
        for leader in 0..racks.len() {
            let found = led_by(leader, racks, json!({"star": {"hub": {"racks": ["r1"]}}}));
            assert_eq!(found, expected, "n{leader} of {} led", racks.len());
        }
    }
}

#[test]
fn two_halves_have_no_leader_whoever_led() {
    for leader in 0..4 {
        let found = led_by(leader, &[1, 1, 2, 2], json!({"split": {"groups": [{"racks": ["r1"]}]}}));
        assert_eq!(found, [(false, Prospect::No); 2], "n{leader} led");
    }
}

#[test]
fn three_have_a_leader_and_one_has_none_whoever_led() {
    for leader in 0..4 {
        let found = led_by(leader, &[1, 1, 1, 2], json!({"split": {"groups": [{"racks": ["r1"]}]}}));
        assert_eq!(found, [(true, Prospect::Yes), (false, Prospect::No)], "n{leader} led");
    }
}

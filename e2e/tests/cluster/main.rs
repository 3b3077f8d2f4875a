//! End to end: the product as people use it, on a real cluster of three racks. Scenarios run one after the other and share the
//! cluster; it is removed at the end, also after a failure.
//!
//! `cargo test -p e2e --test cluster -- [--keep] [--all] [--on=TOPOLOGY] [NAME...]`: `--keep` leaves the cluster for a closer
//! look; `--all` runs the long scenarios too, as `make e2e` does, each on a cluster of the topology and timers that it needs; names
//! choose from all, and `--on` from those what runs on clusters of this topology.

mod bad_luck;
mod by_hand;
mod controls;
mod endings;
mod example;
mod harness;
mod leader;
mod matrix;
mod policy;
mod ports;
mod refusals;
mod rights;
mod runbook;
mod shapes;
mod topologies;
mod upstream;

use anyhow::Result;
use e2e::{
    options::{Options, Profile},
    topology::Topology,
};
use futures::{FutureExt, future::LocalBoxFuture};
use harness::Harness;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Its name, after how many minutes it is given up, and what it does. The minutes are several times of what it takes: all that it waits for
/// has a deadline of its own, and these are for what hangs all the same.
type Scenario = (&'static str, u64, fn(&Harness) -> LocalBoxFuture<'_, Result<()>>);

const SCENARIOS: &[Scenario] = &[
    ("the_example_ends_in_pass", 45, |h| example::passes(h).boxed_local()),
    ("a_guard_unmet_is_refused", 45, |h| refusals::each_says_what_to_do(h).boxed_local()),
    ("the_operator_leads_in_the_cut_rack", 45, |h| leader::in_the_cut_rack(h).boxed_local()),
    ("a_node_dies_while_armed", 45, |h| bad_luck::a_node_dies_while_armed(h).boxed_local()),
    ("deleted_in_every_phase", 60, |h| endings::deleted_in_every_phase(h).boxed_local()),
    ("deleted_in_a_survey", 45, |h| endings::deleted_in_a_survey(h).boxed_local()),
    ("aborted_in_mid_cut", 45, |h| endings::aborted_in_mid_cut(h).boxed_local()),
];

/// Too long for every change.
const LONG: &[Scenario] = &[
    ("an_agent_image_can_t_start", 45, |h| bad_luck::an_agent_image_can_t_start(h).boxed_local()),
    ("rights_are_those_reviewed", 45, |h| rights::are_those_reviewed(h).boxed_local()),
    ("pod_security_is_enforced", 45, |h| rights::pod_security_is_enforced(h).boxed_local()),
    ("metrics_are_served_where_asked", 45, |h| ports::metrics_are_served_where_asked(h).boxed_local()),
    ("who_may_run_what", 60, |h| policy::who_may_run_what(h).boxed_local()),
    ("crash_matrix_dozen", matrix::DOZEN_MINUTES, |h| matrix::a_dozen(h).boxed_local()),
    ("healed_by_hand", 60, |h| by_hand::healed_by_hand(h).boxed_local()),
    ("healed_on_every_node", 60, |h| by_hand::healed_on_every_node(h).boxed_local()),
    ("healed_from_outside", 60, |h| by_hand::healed_from_outside(h).boxed_local()),
    ("a_bridge_is_exact", 45, |h| shapes::of_the_example_is_exact(h, "bridge").boxed_local()),
    ("a_one_way_cut_is_exact", 45, |h| shapes::of_the_example_is_exact(h, "one-way").boxed_local()),
    ("a_cut_of_etcd_peers_is_exact", 45, |h| shapes::of_the_example_is_exact(h, "etcd-peers").boxed_local()),
    ("a_rejecting_cut_is_exact", 45, |h| shapes::of_the_example_is_exact(h, "reject").boxed_local()),
    ("a_bad_link_is_exact", 45, |h| shapes::of_the_example_is_exact(h, "bad-link").boxed_local()),
    ("a_split_is_exact", 45, |h| shapes::of_the_example_is_exact(h, "split").boxed_local()),
    ("a_flapping_cut_is_exact", 45, |h| shapes::of_the_example_is_exact(h, "flapping").boxed_local()),
    ("a_staggered_heal_is_exact", 45, |h| shapes::of_the_example_is_exact(h, "staggered").boxed_local()),
    ("the_leader_of_etcd_is_found", 45, |h| shapes::the_leader_of_etcd_is_found(h).boxed_local()),
    ("a_rehearsal_gives_no_finding", 45, |h| controls::a_rehearsal(h).boxed_local()),
    ("an_old_leader_that_does_not_stop_is_caught", 45, |h| controls::an_old_leader_that_does_not_stop(h).boxed_local()),
    ("a_twin_of_a_stateful_set_is_caught", 45, |h| controls::a_twin_of_a_stateful_set(h).boxed_local()),
    ("stale_reads_on_the_losing_side_are_told", 45, |h| controls::stale_reads_on_the_losing_side(h).boxed_local()),
    ("an_altered_member_of_etcd_is_caught", 60, |h| controls::an_altered_member_of_etcd(h).boxed_local()),
];

/// Two racks that lose each other, and a witness of etcd in a third: on other machines than the rest.
const TWO_RACKS: &[Scenario] = &[("two_racks_and_a_witness", 45, |h| topologies::two_racks(h).boxed_local())];

/// On each cluster that the lab can make and nothing else runs on.
const AS_ASKED: &[Scenario] = &[("the_lab_is_as_asked", 45, |h| topologies::is_as_asked(h).boxed_local())];

/// On Kubernetes' own timers, of which one is five minutes.
const UPSTREAM: &[Scenario] =
    &[("upstreams_timers_are_predicted", 90, |h| upstream::every_interval_contains_what_was_seen(h).boxed_local())];

/// Longer than an afternoon: only by name, as `make matrix` does.
const BY_NAME: &[Scenario] = &[("crash_matrix_whole", matrix::WHOLE_MINUTES, |h| matrix::whole(h).boxed_local())];

/// What three racks can't have.
const FIVE_RACKS: &[Scenario] = &[
    ("a_ring_is_exact", 60, |h| shapes::of_five_racks_is_exact(h, "ring").boxed_local()),
    ("a_chain_is_exact", 60, |h| shapes::of_five_racks_is_exact(h, "chain").boxed_local()),
    ("a_star_is_exact", 60, |h| shapes::of_five_racks_is_exact(h, "star").boxed_local()),
];

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| words.iter().any(|w| w == flag);
    let names: Vec<&String> = words.iter().filter(|w| !w.starts_with('-')).collect();
    let long = !names.is_empty() || has("--all");
    let chosen = |scenarios: &[&'static [Scenario]]| -> Vec<&'static Scenario> {
        let wanted = |s: &&Scenario| names.is_empty() || names.iter().any(|n| s.0.contains(*n));
        scenarios.iter().flat_map(|s| s.iter()).filter(wanted).collect()
    };
    let on = |topology, dual_stack| Options { topology, dual_stack, ..Options::default() };
    let mut groups = vec![(
        Options::default(),
        chosen(match (names.is_empty(), long) {
            (false, _) => &[SCENARIOS, LONG, BY_NAME],
            (true, true) => &[SCENARIOS, LONG],
            (true, false) => &[SCENARIOS],
        }),
    )];
    if long {
        groups.push((Options { profile: Profile::Upstream, ..Options::default() }, chosen(&[UPSTREAM])));
        groups.push((on(Topology::TwoRacksExternalEtcd, true), chosen(&[TWO_RACKS])));
        groups.push((on(Topology::FiveRacks, false), chosen(&[FIVE_RACKS])));
        for topology in [Topology::OneMaster, Topology::TwoMasters, Topology::TwoMastersOneRack] {
            groups.push((on(topology, false), chosen(&[AS_ASKED])));
        }
        let beside = Options { balancer_rack: Some("r1".into()), ..on(Topology::ThreeMastersTwoRacks, true) };
        groups.push((beside, chosen(&[AS_ASKED])));
    }
    let topology = words.iter().find_map(|w| w.strip_prefix("--on="));
    let is_wanted = |options: &Options| topology.is_none_or(|t| options.topology.name() == t);
    groups.retain(|(options, scenarios)| !scenarios.is_empty() && is_wanted(options));
    if has("--list") {
        groups.iter().flat_map(|(_, scenarios)| scenarios).for_each(|(name, ..)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for (options, scenarios) in groups {
        println!("running {} scenarios on {}", scenarios.len(), options.describe());
        let (more, amiss) = run_on(&options, scenarios, has("--keep")).await;
        passed += more;
        failed.extend(amiss);
    }
    // Once more, and why: of a long log people see the end first.
    failed.iter().for_each(|(name, why)| println!("failed: {name}: {why}"));
    println!("{passed} passed, {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many passed, and the names of those that did not, with the reason.
async fn run_on(options: &Options, chosen: Vec<&Scenario>, keep: bool) -> (usize, Vec<(&'static str, String)>) {
    let (mut passed, mut failed) = (0, Vec::new());
    match Harness::set_up(options).await {
        Ok(harness) => {
            for (at, (name, minutes, scenario)) in chosen.iter().enumerate() {
                let begun = Instant::now();
                println!("scenario {name} ...");
                let ended = timeout(Duration::from_secs(minutes * 60), scenario(&harness)).await;
                let seconds = begun.elapsed().as_secs_f64();
                let Ok(ended) = ended else {
                    println!("scenario {name} ... GIVEN UP ({seconds:.0} s)");
                    harness.explain().await;
                    failed.push((*name, format!("given up after {minutes} minutes")));
                    // It could not undo what it had done: nodes may be held, and manifests away.
                    let rest = chosen[at + 1..].iter().map(|(other, ..)| (*other, format!("not run after {name}")));
                    failed.extend(rest);
                    break;
                };
                if let Err(error) = &ended {
                    println!("scenario {name} ... FAILED ({seconds:.0} s): {error:?}");
                    harness.explain().await;
                }
                // One scenario's leftovers must not be the next one's failure.
                let cleared = harness.clear().await;
                if let Err(error) = &cleared {
                    println!("after {name}: {error:?}");
                }
                let why: Vec<String> = [ended.err(), cleared.err().map(|e| e.context("what it left behind"))]
                    .iter()
                    .flatten()
                    .map(|error| format!("{error:#}"))
                    .collect();
                if why.is_empty() {
                    passed += 1;
                    println!("scenario {name} ... ok ({seconds:.0} s)");
                } else {
                    failed.push((*name, why.join("; ")));
                }
            }
        }
        Err(error) => {
            println!("set-up failed: {error:?}");
            failed.push(("set-up", format!("{error:#}")));
        }
    }
    if !keep && let Err(error) = e2e::lab::down(harness::CLUSTER).await {
        failed.push(("tear-down", format!("failed to remove the cluster: {error:#}")));
    }
    (passed, failed)
}

//! Disruption budgets at the heal.

use super::*;
use crate::topology::Budget;

fn budget(name: &str, desired: Option<u32>, healthy: &[&str]) -> Budget {
    let healthy = healthy.iter().map(|p| (*p).to_owned()).collect();
    Budget { namespace: "default".into(), name: name.into(), desired_healthy: desired, healthy }
}

fn forecasts(seconds: u64, budgets: &[Budget]) -> Vec<(u32, (u32, u32), Certainty)> {
    let forecast = isolate(&Snapshot { budgets: budgets.into(), ..snapshot() }, &["r1"], seconds);
    forecast.budgets.iter().map(|b| (b.healthy, b.left, b.crossed)).collect()
}

const WEB: [&str; 2] = ["web-7d4b9c6f58-aaaaa", "web-7d4b9c6f58-bbbbb"];

#[test]
fn copies_that_run_elsewhere_stand_in_for_evicted_pods() {
    // One of two on the cut side; its copy runs after 69.4 s.
    assert_eq!(forecasts(75, &[budget("web", Some(2), &WEB)]), [(2, (2, 2), Certainty::MustNot)]);
    assert_eq!(forecasts(60, &[budget("web", Some(2), &WEB)]), [(2, (1, 2), Certainty::May)]);
    assert_eq!(forecasts(60, &[budget("web", Some(1), &WEB)]), [(2, (1, 2), Certainty::MustNot)]);
}

#[test]
fn a_stateful_set_has_nobody_to_stand_in() {
    assert_eq!(forecasts(75, &[budget("db", Some(1), &["db-0"])]), [(1, (0, 0), Certainty::Must)]);
    // It tolerates more than this cut.
    let dns = [budget("dns", Some(1), &["dns-5bc6f7d8f4-ccccc"])];
    assert_eq!(forecasts(75, &dns), [(1, (1, 1), Certainty::MustNot)]);
}

#[test]
fn a_pod_that_nobody_observes_may_be_anywhere() {
    assert_eq!(forecasts(75, &[budget("db", Some(1), &["db-0", "db-1"])]), [(2, (0, 1), Certainty::May)]);
}

#[test]
fn budgets_of_the_other_side_alone_are_left_out() {
    assert!(forecasts(75, &[budget("web", Some(1), &WEB[1..])]).is_empty());
}

#[test]
fn crossed_ones_are_told_with_their_numbers() {
    let budgets = vec![budget("db", Some(1), &["db-0"]), budget("web", Some(2), &WEB), budget("new", None, &["db-0"])];
    let told = isolate(&Snapshot { budgets, ..snapshot() }, &["r1"], 75).assumptions;
    for words in [
        "not judged: disruption budget default/db is crossed within 110 s of the heal: 0 of 1 healthy pod left, 1 want",
        "not judged: 1 disruption budget with pods on the losing side not crossed at the heal",
        "not judged: nothing is predicted of disruption budgets whose status does not say what they want: default/new",
    ] {
        assert!(told.iter().any(|a| a.starts_with(words)), "{words}: {told:#?}");
    }
}

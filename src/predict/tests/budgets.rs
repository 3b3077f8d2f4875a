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
fn a_budget_that_is_crossed_before_the_cut_is_not_crossed_by_the_heal() {
    assert_eq!(forecasts(75, &[budget("web", Some(3), &WEB)]), [(2, (2, 2), Certainty::MustNot)]);
    assert_eq!(forecasts(60, &[budget("web", Some(3), &WEB)]), [(2, (1, 2), Certainty::MustNot)]);
    let budgets = vec![budget("web", Some(3), &WEB)];
    let told = isolate(&Snapshot { budgets, ..snapshot() }, &["r1"], 75).predictions;
    let told = told.iter().find(|p| p.check == Check::HealDamage).unwrap();
    assert_eq!(told.expected, "crossed before the cut already: 2 healthy pods, 3 wanted");
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
    let budgets = vec![
        budget("db", Some(1), &["db-0"]),
        budget("web", Some(2), &WEB),
        budget("new", None, &["db-0"]),
        budget("half", Some(1), &["db-0", "db-1"]),
        budget("most", Some(1), &["web-7d4b9c6f58-aaaaa", "web-7d4b9c6f58-bbbbb", "web-elsewhere"]),
    ];
    let forecast = isolate(&Snapshot { budgets, ..snapshot() }, &["r1"], 75);
    let predicted = forecast.predictions.iter().filter(|p| p.check == Check::HealDamage);
    let predicted: Vec<_> = predicted.map(|p| (p.subject.as_str(), p.expected.as_str())).collect();
    assert_eq!(
        predicted,
        [
            ("disruption budget default/db", "crossed within 294.2 s of the heal: 0 of 1 healthy pod left, 1 wanted"),
            ("disruption budget default/web", "not crossed by the heal: 2 of 2 healthy pods left, 2 wanted"),
        ]
    );
    // Nobody looks at all of their pods.
    for words in [
        "not judged: disruption budget default/half: perhaps crossed within 294.2 s of the heal: 0 to 1 of 2 healthy pods left, 1 wan",
        "not judged: 1 disruption budget with pods on the losing side, not all of them observed, not crossed at the heal",
        "not judged: nothing is predicted of disruption budgets whose status does not say what they want: default/new",
    ] {
        assert!(forecast.assumptions.iter().any(|a| a.starts_with(words)), "{words}: {:#?}", forecast.assumptions);
    }
}

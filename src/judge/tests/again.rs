//! When Leases are held again by somebody who renews them, and pods are Ready again.

use super::{
    fixture::{CUT, END, Run, START, passing, span},
    mutations::KCM,
};
use crate::api::{CLUSTER_UNREAD, Check, Finding, FindingResult, LEADING, SpanKind};

const VIOLATED: FindingResult = FindingResult::Violated;
const UNKNOWN: FindingResult = FindingResult::Inconclusive;

/// What is said of the milestones of the passing run with a change.
fn milestones(change: impl FnOnce(&mut Run)) -> Finding {
    let mut run = passing();
    change(&mut run);
    let findings = run.judge().findings;
    findings.into_iter().find(|f| f.check == Check::Recovery && f.subject == "milestones").expect("a finding")
}

#[track_caller]
fn are(found: &Finding, result: FindingResult, words: &str) {
    assert_eq!(found.result, result, "{found:?}");
    assert!(found.observed.contains(words) || found.evidence.contains(words), "{words}: {found:?}");
}

#[test]
fn a_lease_that_is_taken_after_the_heal_is_renewed_from_then_on() {
    // Whoever held it before has ended, and whoever was started in his place is somebody else.
    let taken = |at: f64| {
        milestones(|run| run.rewrite_operator(SpanKind::Lease, KCM, &[("cp1_1", START, at - 0.5), ("cp2_2", at, END)]))
    };
    are(&taken(CUT + 4.5), FindingResult::Held, "Leases 4.5 s");
    // LeaseDuration 6 s, two polls of 2.2 s, and a second.
    are(&taken(CUT + 20.0), FindingResult::Noted, "Leases 20 s, 11.4 s is usual");
}

#[test]
fn a_lease_whose_holder_has_ended_is_renewed_by_nobody() {
    let of = |history: &[(&str, f64, f64)]| milestones(|run| run.rewrite_operator(SpanKind::Lease, KCM, history));
    let never = "Leases not by the end of watching";
    are(&of(&[("cp1_1", START, END)]), VIOLATED, never);
    // Nobody could look in the cut, and the process that was started in it is another one.
    are(&of(&[("cp1_1", START, 0.5), ("cp1_1", CUT + 5.0, END)]), VIOLATED, never);
    are(&of(&[("cp1_1", START, 8.5), ("", 9.0, END)]), VIOLATED, never);
    // The new one ended soon after the heal.
    let ended = |run: &mut Run| run.rewrite_containers("cp2", "kcm", &[("exited", -900.0, CUT + 3.0)]);
    are(&milestones(ended), VIOLATED, never);
    // Or nobody looked any more.
    are(&of(&[("cp1_1", START, CUT + 20.0)]), UNKNOWN, "not looked at until the end");
    are(&of(&[("cp1_1", START, CUT - 1.0)]), UNKNOWN, "was not seen after the heal");
}

#[test]
fn whether_a_holder_goes_on_is_known_by_its_runtime_or_by_itself() {
    let unread = |run: &mut Run| run.status("cp2").reads_containers = false;
    are(&milestones(unread), UNKNOWN, "cp2: the container runtime is not read");
    let vanished = |run: &mut Run| run.rewrite_containers("cp2", "kcm", &[("gone", -900.0, CUT + 1.0)]);
    are(&milestones(vanished), UNKNOWN, "and what became of it was not seen");
    let told = |until: f64| {
        move |run: &mut Run| {
            unread(run);
            let leads = |component: &str| span(0.2, SpanKind::LeaderMetric, component, LEADING, 10.0, until);
            let both = ["kube-controller-manager", "kube-scheduler"].map(leads);
            run.status("cp2").spans.extend(both);
        }
    };
    are(&milestones(told(END)), FindingResult::Held, "Leases 0 s");
    // That it led in the cut says nothing of what came then.
    are(&milestones(told(CUT - 1.0)), UNKNOWN, "cp2: the container runtime is not read");
}

#[test]
fn a_lease_that_could_not_move_has_nothing_to_come_back_to() {
    // A second is no reason for anybody to lose it.
    let short = |run: &mut Run| run.schedule.heal_at = super::fixture::moment(0.0, 1.0).wall;
    let found = milestones(short);
    assert!(!found.observed.contains("Leases"), "{found:?}");
}

#[test]
fn pods_are_well_when_as_many_are_ready_as_at_the_cut() {
    let ready_at = |at: f64| {
        let history = [("Running/NotReady", CUT + 10.0, at - 0.5), ("Running/Ready", at, END)];
        milestones(|run| run.rewrite_pod("db-2", &history))
    };
    are(&ready_at(CUT + 40.0), FindingResult::Held, "pods 40 s");
    // They may take longer than anybody watched.
    let never = milestones(|run| {
        run.rewrite_pod("db-2", &[("Running/NotReady", CUT + 10.0, END)]);
        run.rewrite_operator(SpanKind::Convergence, "cluster", &[("ok", START, 0.5), ("waiting", 1.5, END)]);
    });
    are(&never, UNKNOWN, "pods not by the end of watching, 150 s");
}

#[test]
fn fewer_pods_are_well_where_no_more_are_desired() {
    let without_a_copy = |run: &mut Run| run.operator_status().spans.retain(|s| s.uid.as_deref() != Some("web-3"));
    // The operator saw everything be as desired from then on.
    are(&milestones(without_a_copy), FindingResult::Held, "pods 21 s");
    let unseen = milestones(|run| {
        without_a_copy(run);
        run.rewrite_operator(SpanKind::Convergence, "cluster", &[]);
    });
    are(&unseen, UNKNOWN, "the cluster was not looked at until the end");
    let unread = milestones(|run| {
        without_a_copy(run);
        let history = [("ok", START, END - 5.0), (CLUSTER_UNREAD, END - 4.0, END)];
        run.rewrite_operator(SpanKind::Convergence, "cluster", &history);
    });
    are(&unread, UNKNOWN, "nobody saw whether all was as desired");
    // At what is desired of these it does not look.
    let of_others = milestones(|run| {
        run.snapshot.pods.iter_mut().filter(|p| p.uid.starts_with("web-")).for_each(|p| {
            (p.owner_kind, p.owner_name) = (Some("CloneSet".into()), Some("web".into()));
        });
    });
    are(&of_others, UNKNOWN, "how many were wanted is not known");
}

#[test]
fn a_pod_that_nobody_saw_before_the_cut_leaves_it_open() {
    let found = milestones(|run| run.rewrite_pod("dns-1", &[("Running/Ready", 10.0, END)]));
    are(&found, UNKNOWN, "pod default/dns-5bc6f7d8f4-ccccc was not seen before the cut");
}

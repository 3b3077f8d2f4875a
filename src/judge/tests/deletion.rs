//! Taints, evictions, and containers that go on running when nobody wants them any more.

use super::{
    fixture::{CUT, END, Run, START, container, moment, passing},
    mutations::expect,
};
use crate::{
    api::{Check, FindingResult, SpanKind, Verdict},
    fault::Effect,
};

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const WEB: &str = "default/web (Deployment)";
const DB: &str = "default/db (StatefulSet)";
const DEGRADED: FindingResult = FindingResult::Degraded;
const UNKNOWN: FindingResult = FindingResult::Inconclusive;
const VIOLATED: FindingResult = FindingResult::Violated;

#[test]
fn a_node_that_is_never_tainted_or_too_late() {
    let amiss = [(Check::NodeTainted, "isolated: 2 nodes", DEGRADED)];
    let never = [("none", START, END)];
    // Predicted until 49.4 s; 5 s and the clocks' 0.5 s more are let pass.
    let late = |at: f64| [("none", START, at - 0.5), (UNREACHABLE, at, 81.0), ("none", 81.5, END)];
    expect(|run| run.rewrite_operator(SpanKind::Taint, "w1", &never), Verdict::Degraded, &amiss);
    expect(|run| run.rewrite_operator(SpanKind::Taint, "w1", &late(60.0)), Verdict::Degraded, &amiss);
    expect(|run| run.rewrite_operator(SpanKind::Taint, "w1", &late(54.0)), Verdict::Pass, &[]);
}

#[test]
fn a_node_whose_taints_nobody_saw() {
    let amiss = [(Check::NodeTainted, "isolated: 2 nodes", UNKNOWN)];
    let hole = [("none", START, 20.0), (UNREACHABLE, 50.0, 81.0), ("none", 81.5, END)];
    let before = [(UNREACHABLE, START, 81.0), ("none", 81.5, END)];
    for history in [&hole[..], &before[..]] {
        expect(|run| run.rewrite_operator(SpanKind::Taint, "w1", history), Verdict::Inconclusive, &amiss);
    }
}

/// web's pod on the cut side is deleted at `at` and ends after the heal.
fn deleted(run: &mut Run, at: f64) {
    run.rewrite_pod("web-1", &[("Running/Ready", START, at - 0.5), ("Running/Terminating", at, CUT + 9.0)]);
}

#[test]
fn a_pod_that_is_deleted_too_early_too_late_or_not_at_all() {
    let amiss = [(Check::WorkloadEvicted, WEB, DEGRADED)];
    // Predicted from 21 s to 54.4 s.
    for at in [10.0, 15.0, 61.0] {
        expect(|run| deleted(run, at), Verdict::Degraded, &amiss);
    }
    for at in [16.0, 59.0] {
        expect(|run| deleted(run, at), Verdict::Pass, &[]);
    }
    let kept = |run: &mut Run| {
        run.rewrite_pod("web-1", &[("Running/Ready", START, END)]);
        let back = [("ready", START, 22.7), ("unready", 23.2, CUT + 9.0), ("ready", CUT + 9.5, END)];
        run.rewrite_operator(SpanKind::Endpoint, super::endpoints::WEB, &back);
    };
    expect(kept, Verdict::Degraded, &amiss);
    // By force: nobody saw it being deleted, and it was gone too early.
    let gone_early = |run: &mut Run| run.rewrite_pod("web-1", &[("Running/Ready", START, 8.0)]);
    expect(gone_early, Verdict::Degraded, &amiss);
}

#[test]
fn a_pod_that_need_not_be_deleted_in_the_cut_and_is() {
    let taken = |run: &mut Run| {
        run.rewrite_pod("dns-1", &[("Running/Ready", START, 29.5), ("Running/Terminating", 30.0, CUT + 9.0)]);
        run.rewrite_containers("w1", "dns-1", &[("exited", -600.0, CUT + 9.0)]);
    };
    expect(taken, Verdict::Degraded, &[(Check::WorkloadEvicted, "default/dns (Deployment)", DEGRADED)]);
}

#[test]
fn a_pod_that_ends_too_long_after_the_heal() {
    // Its API server may be back 65 s after the heal of a cut that rejects, its kubelet hears of it 45 s later, then come 5 s of grace
    // and 10 s: 125 s.
    let until = |to: f64| {
        move |run: &mut Run| {
            run.fault.pattern.effect = Effect::Reject;
            run.rewrite_pod("db-1", &[("Running/Ready", START, 38.5), ("Running/Terminating", 39.0, CUT + to)]);
        }
    };
    expect(until(126.0), Verdict::Fail, &[(Check::WorkloadStuck, DB, VIOLATED)]);
    expect(until(115.0), Verdict::Pass, &[]);
    // Nobody looked between.
    expect(until(123.0), Verdict::Inconclusive, &[(Check::WorkloadStuck, DB, UNKNOWN)]);
    // A user who accepts a slower recovery accepts this.
    let patient = |run: &mut Run| {
        until(126.0)(run);
        run.spec.expect.recovered_within = Some(std::time::Duration::from_secs(145).into());
    };
    expect(patient, Verdict::Pass, &[]);
}

#[test]
fn a_pod_that_has_more_time_to_end_than_anybody_watched() {
    let patient = |run: &mut Run| {
        run.rewrite_pod("db-1", &[("Running/Ready", START, 38.5), ("Running/Terminating", 39.0, END)]);
        run.spec.expect.recovered_within = Some(std::time::Duration::from_secs(200).into());
    };
    expect(patient, Verdict::Inconclusive, &[(Check::WorkloadStuck, DB, UNKNOWN)]);
}

#[test]
fn a_pod_at_which_nobody_looks_any_more_may_be_stuck() {
    let mut run = passing();
    let last = moment(0.0, 20.0);
    let is_listed = |kind: SpanKind| matches!(kind, SpanKind::Node | SpanKind::Pod);
    let spans = &mut run.operator_status().spans;
    spans.retain(|s| !is_listed(s.kind) || s.from.boot_us <= last.boot_us);
    for span in spans.iter_mut() {
        if is_listed(span.kind) && span.to.boot_us > last.boot_us {
            span.to = last.clone();
        }
    }
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == Check::WorkloadStuck && f.subject == DB).unwrap();
    assert_eq!(found.result, UNKNOWN, "{found:?}");
    assert_eq!(found.evidence, "operator: pod default/db-0 was not looked at until the end");
}

#[test]
fn a_container_that_outlives_its_pod() {
    let amiss = |result| [(Check::WorkloadOrphaned, "all pods", result)];
    // On the side that is heard: gone by 66 s, 5 s of grace and 10 s.
    let on_w2 = |state: &'static str, to: f64| {
        move |run: &mut Run| {
            run.rewrite_pod("web-2", &[("Running/Ready", START, 60.0)]);
            run.rewrite_containers("w2", "web-2", &[(state, -600.0, to)]);
            // Its node was looked at all the time.
            run.status("w2").spans.push(container("kube-system/kube-proxy-x/kube-proxy", "kp", "running", -900.0, END));
        }
    };
    expect(on_w2("running", END), Verdict::Fail, &amiss(VIOLATED));
    expect(on_w2("exited", 82.0), Verdict::Fail, &amiss(VIOLATED));
    expect(on_w2("exited", 80.0), Verdict::Pass, &[]);
    expect(on_w2("exited", 81.0), Verdict::Inconclusive, &amiss(UNKNOWN));
    expect(on_w2("running", 80.0), Verdict::Inconclusive, &amiss(UNKNOWN));
}

#[test]
fn a_container_on_the_cut_side_has_until_its_kubelet_can_know() {
    let outlives = |to: f64| {
        move |run: &mut Run| {
            run.fault.pattern.effect = Effect::Reject;
            run.rewrite_pod("dns-1", &[("Running/Ready", START, CUT + 5.0)]);
            run.rewrite_containers("w1", "dns-1", &[("exited", -600.0, to)]);
        }
    };
    // Until 125 s after the heal, as a pod.
    expect(outlives(CUT + 140.0), Verdict::Fail, &[(Check::WorkloadOrphaned, "all pods", VIOLATED)]);
    let mut run = passing();
    outlives(CUT + 124.0)(&mut run);
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == Check::WorkloadOrphaned).unwrap();
    assert_eq!(found.result, FindingResult::Held, "{found:?}");
    assert_eq!(found.observed, "3 pods went, and their containers with them");
}

/// Only pods with some label are looked at.
fn selecting(run: &mut Run) {
    run.spec.workloads.label_selector.match_labels = Some([("app".to_owned(), "web".to_owned())].into());
}

#[test]
fn a_pod_that_is_no_longer_selected_may_be_there() {
    let amiss = |result| [(Check::WorkloadOrphaned, "all pods", result)];
    let unlisted = |run: &mut Run| run.rewrite_pod("web-2", &[("Running/Ready", START, 60.0)]);
    expect(unlisted, Verdict::Fail, &amiss(VIOLATED));
    let selected = |run: &mut Run| {
        selecting(run);
        unlisted(run);
    };
    expect(selected, Verdict::Inconclusive, &amiss(UNKNOWN));
    // Whoever was being deleted is gone, whatever is looked at.
    let deleted = |run: &mut Run| {
        selecting(run);
        run.rewrite_pod("web-2", &[("Running/Ready", START, 57.5), ("Running/Terminating", 58.0, 60.0)]);
    };
    expect(deleted, Verdict::Fail, &amiss(VIOLATED));
    let gone_early = |run: &mut Run| {
        selecting(run);
        run.rewrite_pod("web-1", &[("Running/Ready", START, 8.0)]);
    };
    let mut run = passing();
    gone_early(&mut run);
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == Check::WorkloadEvicted && f.subject == WEB).unwrap();
    assert_eq!(found.result, UNKNOWN, "{found:?}");
    assert_eq!(found.evidence, "operator: pod default/web-7d4b9c6f58-aaaaa was deleted or is no longer selected");
}

#[test]
fn a_pod_that_was_over_before_the_cut_is_not_asked_about() {
    let over = |history: &[(&str, f64, f64)]| {
        let mut run = passing();
        let pod = run.snapshot.pods.iter_mut().find(|p| p.uid == "web-1").unwrap();
        pod.owner_kind = Some("Job".into());
        pod.owner_name = Some("backup".into());
        pod.restart_always = false;
        run.rewrite_pod("web-1", history);
        run.rewrite_containers("w1", "web-1", &[("exited", -600.0, -12.0)]);
        run
    };
    let running = ("Running/Ready", START, -12.0);
    for after in [Some(("Succeeded/NotReady", -11.0, END)), Some(("Running/Terminating", -11.0, -8.0)), None] {
        let history: Vec<_> = std::iter::once(running).chain(after).collect();
        let judgement = over(&history).judge();
        let of_job: Vec<_> = judgement.findings.iter().filter(|f| f.subject == "default/backup (Job)").collect();
        assert!(of_job.is_empty() && judgement.verdict == Verdict::Pass, "{after:?}: {:#?}", judgement.findings);
    }
    // Where the operator's record can't be relied on it is asked about, and open.
    let mut run = over(&[running]);
    run.operator_status().spans_left_out = 1;
    let findings = run.judge().findings;
    let found = findings.iter().find(|f| f.check == Check::WorkloadEvicted && f.subject == "default/backup (Job)");
    assert_eq!(found.map(|f| f.result), Some(UNKNOWN), "{findings:#?}");
}

#[test]
fn two_of_one_name_on_a_node_that_somebody_declared_dead() {
    let twin = |taint: &'static str| {
        move |run: &mut Run| {
            run.status("w3").spans.push(container("default/db-0/app", "db-9", "exited", 50.0, 70.0));
            let taints = [("none", START, 33.5), (UNREACHABLE, 34.0, 44.5), (taint, 45.0, 81.0), ("none", 81.5, END)];
            run.rewrite_operator(SpanKind::Taint, "w1", &taints);
        }
    };
    let out_of_service = "node.kubernetes.io/out-of-service,node.kubernetes.io/unreachable";
    expect(twin(out_of_service), Verdict::Pass, &[]);
    expect(twin(UNREACHABLE), Verdict::Fail, &[(Check::WorkloadDoubled, DB, VIOLATED)]);
}

#[test]
fn a_second_pod_of_one_name_that_was_not_there_before_the_cut_is_one_too_many_as_well() {
    // Beside the one that was made after the heal.
    let twin = |run: &mut Run| {
        run.status("w3").spans.push(container("default/db-0/app", "db-9", "running", CUT + 20.0, END));
    };
    expect(twin, Verdict::Fail, &[(Check::WorkloadDoubled, DB, VIOLATED)]);
}

#[test]
fn what_ran_when_it_was_last_looked_at_may_have_run_beside_another_one() {
    let last_seen = |uid: &str, subject: &str, state: &str| {
        let mut run = passing();
        run.rewrite_containers("w1", uid, &[(state, -600.0, 20.0)]);
        let findings = run.judge().findings;
        let found = findings.into_iter().find(|f| f.check == Check::WorkloadDoubled && f.subject == subject).unwrap();
        (found.result, found.observed)
    };
    let open = "another db-0 began when nobody looked any more whether the first one ran";
    // The end of one that is gone nobody saw, either.
    for state in ["running", "gone"] {
        assert_eq!(last_seen("db-1", DB, state), (UNKNOWN, open.to_owned()), "{state}");
        let (result, observed) = last_seen("web-1", WEB, state);
        assert_eq!(result, FindingResult::Noted, "{state}");
        assert!(observed.starts_with("ran twice for ") && observed.ends_with(", by what is known"), "{observed}");
    }
}

#[test]
fn containers_too_many_are_counted_over_all_nodes() {
    let doubled = |run: &Run| {
        let findings = run.judge().findings;
        let found = findings.into_iter().find(|f| f.check == Check::WorkloadDoubled && f.subject == WEB).unwrap();
        (found.result, found.observed)
    };
    let held = FindingResult::Held;
    assert_eq!(doubled(&passing()), (held, "ran twice for 42 s, 42 container-seconds too many".into()));
    // A third one for 20 s on a node where it has a neighbour.
    let mut run = passing();
    let web = "ReplicaSet/web-7d4b9c6f58";
    let name = "default/web-7d4b9c6f58-fffff";
    run.operator_status().spans.push(super::fixture::pod(name, "web-6", "w3", web, "Running/Ready", 49.0, 71.0));
    run.status("w3").spans.push(container(&format!("{name}/app"), "web-6", "exited", 50.0, 70.0));
    assert_eq!(doubled(&run), (held, "ran twice for 42 s, 62 container-seconds too many".into()));
}

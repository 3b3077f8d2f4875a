//! The way back where the stores of etcd's members differ: whom to rebuild from whom, step by step, with the cluster's own names. And a
//! shorter one where a member only does not follow the others.
//!
//! Each step says on which node its lines are run, as they stand, and waits for what the next one needs, so that whoever reads them
//! runs them one after another: a person, or the lab (`e2e/tests/cluster/runbook.rs`).

use crate::{
    api::{Check, ETCD, Finding, FindingResult},
    predict::majority,
    topology::{ApiServer, EtcdMember, Snapshot},
};
use std::{collections::BTreeSet, net::SocketAddr};

/// kubeadm's folders and files (`cmd/kubeadm/app/constants`, ManifestsSubDirName and EtcdDataDir).
const MANIFESTS: &str = "/etc/kubernetes/manifests";
const DATA: &str = "/var/lib/etcd";
const CERTIFICATES: &str = "/etc/kubernetes/pki/etcd";
const KUBECONFIG: &str = "/etc/kubernetes/admin.conf";

/// In the shell of a member that is asked: where another member listens, by its name. Several URLs of one member have commas between them.
const URL: &str = r#"url() { e member list | awk -F', ' -v name="$1" '$3 == name { sub(/,.*/, "", $5); print $5 }'; }"#;
/// Its own revision: hashes can be compared at one revision only, and the others go on writing.
const AT: &str = r#"at() { e endpoint status -w fields | sed -n 's/^"Revision" : //p'; }"#;
/// Whether both answer, and hold the same there: of two lines that are equal `uniq -d` prints one.
const SAME: &str =
    r#"same() { [ -n "$(e endpoint hashkv --endpoints="$(url "$1")" --rev="$(at)" | cut -d, -f2 | uniq -d)" ]; }"#;
const ALL_HASHES: &str = r#"e endpoint hashkv --cluster --rev="$(at)" -w table"#;

/// What to do about members that findings name, or that nobody can say which ones are good; `None` where no finding says that any
/// differs, or does not follow.
pub fn runbook(snapshot: &Snapshot, findings: &[Finding]) -> Option<String> {
    let cluster = Cluster(snapshot);
    let told = |check: Check, result: FindingResult, subject: &str| {
        findings.iter().any(|f| f.check == check && f.result == result && f.subject == subject)
    };
    let is_bad = |node: &str| told(Check::StoreAgreement, FindingResult::Violated, node);
    // One that does not follow may hold what all hold: that is no reason to empty it, and none to rebuild another from it.
    let is_stray = |node: &str| told(Check::EtcdLeaders, FindingResult::Violated, node);
    let is_unknown = |node: &str| told(Check::StoreAgreement, FindingResult::Inconclusive, node) || is_stray(node);
    let bad: Vec<&EtcdMember> = snapshot.etcd.iter().filter(|m| is_bad(&m.node)).collect();
    let good: Vec<&EtcdMember> = snapshot.etcd.iter().filter(|m| !is_bad(&m.node) && !is_unknown(&m.node)).collect();
    let nobody_knows = told(Check::StoreAgreement, FindingResult::Violated, ETCD);
    let seen = seen(findings);
    if bad.is_empty() && !nobody_knows {
        let strays: Vec<&EtcdMember> = snapshot.etcd.iter().filter(|m| is_stray(&m.node)).collect();
        return good.first().filter(|_| !strays.is_empty()).map(|helper| cluster.look(&seen, &strays, helper));
    }
    let enough = majority(u32::try_from(snapshot.etcd.len()).unwrap_or(u32::MAX)) as usize;
    match good.first() {
        Some(helper) if !nobody_knows && good.len() >= enough => {
            // Alarms and panics name who is broken, and not who is whole.
            let compared = !told(Check::StoreAgreement, FindingResult::Inconclusive, ETCD);
            Some(cluster.rebuild(&seen, &bad, &good, helper, compared))
        }
        _ => Some(cluster.refuse(&seen)),
    }
}

/// What was found, a line each.
fn seen(findings: &[Finding]) -> String {
    let is_of = |f: &&Finding| {
        matches!(f.check, Check::StoreAgreement | Check::EtcdLeaders) && f.result == FindingResult::Violated
    };
    findings.iter().filter(is_of).map(|f| format!("- {}: {}\n", f.subject, f.observed)).collect()
}

struct Cluster<'a>(&'a Snapshot);

impl Cluster<'_> {
    fn rebuild(
        &self,
        seen: &str,
        bad: &[&EtcdMember],
        good: &[&EtcdMember],
        helper: &EtcdMember,
        compared: bool,
    ) -> String {
        let (total, nodes) = (self.0.etcd.len(), names(good));
        let mut text = format!("The way back for etcd on {}\n\n{seen}\n", names(bad));
        text += &match compared {
            true => format!("{nodes} are {} of {total} members, and nothing speaks against them.\n", good.len()),
            false => format!(
                "Nothing speaks against {nodes}, {} of {total} members, but their stores were not compared in this run: go on only \
                 if step 1 shows that their hashes are the same.\n",
                good.len()
            ),
        };
        text += "What is rebuilt loses what it holds and gets it anew from them. One member at a time, as root, and read each \
                 command first.\n";
        text += &self.assumed();
        let mut steps = Steps { text, count: 0 };
        let mut first = shell(helper);
        first.extend([ALL_HASHES.to_owned(), format!("e snapshot save {}/before-rebuild.db", data(helper))]);
        steps.step(
            &format!("On {}, in a shell that stays open: what all hold, and a copy of its own.", helper.node),
            &first,
        );
        let in_shell = format!("On {}, in the shell of step 1", helper.node);
        for member in bad {
            self.rebuild_one(&mut steps, member, &in_shell);
        }
        // While an alarm is raised no member is healthy (etcdctl `ep_command.go`) and none answers an API server (`apply/corrupt.go`),
        // and one that is disarmed before all hold the same is raised again.
        let mut last = vec!["e alarm disarm".to_owned()];
        last.extend(bad.iter().map(|m| healthy(name(m))));
        last.extend(["e alarm list", ALL_HASHES].map(str::to_owned));
        steps.step(
            &format!("{in_shell}: now that all hold the same no alarm is left, and what was rebuilt gets healthy."),
            &last,
        );
        for (member, server) in bad.iter().filter_map(|m| Some((m, self.server(m)?))) {
            let asks = format!("kubectl --kubeconfig={KUBECONFIG} --server=https://{}", server.address);
            steps.step(
                &format!("On {}: and then the API server.", member.node),
                &[
                    format!("mv {}/kube-apiserver.yaml {MANIFESTS}/", kept(member)),
                    until(&format!("{asks} get --raw=/readyz")),
                ],
            );
        }
        steps.text
    }

    /// Until etcd runs on it again and holds what the others hold. Its API server comes last of all.
    fn rebuild_one(&self, steps: &mut Steps, member: &EtcdMember, in_shell: &str) {
        let (node, name, kept) = (&member.node, name(member), kept(member));
        let (both, running) = match self.server(member) {
            Some(_) => (format!("{MANIFESTS}/kube-apiserver.yaml {MANIFESTS}/etcd.yaml"), "kube-apiserver|etcd"),
            None => (format!("{MANIFESTS}/etcd.yaml"), "etcd"),
        };
        steps.step(
            &format!("On {node}: its manifests go, and with them what runs of them."),
            // A folder that is there already keeps what another rebuild took away.
            &[
                format!("mkdir {kept} && mv {both} {kept}/"),
                // One that fails has not said that nothing runs.
                until(&format!("left=$(crictl ps -q --name '^({running})$') && [ -z \"$left\" ]")),
            ],
        );
        steps.step(
            &format!("{in_shell}: {name} leaves the cluster."),
            &[format!("e member remove \"$(e member list | grep ', {name}, ' | cut -d, -f1)\"")],
        );
        steps.step(
            &format!("On {node}: its data folder is emptied. What was in it is kept beside the manifests."),
            &[format!("mv {}/member {kept}/member", data(member))],
        );
        steps.step(
            &format!("{in_shell}: {name} comes again, as one that holds nothing."),
            &[format!("e member add {name} --peer-urls={}", self.peer_urls(member).join(","))],
        );
        let cluster = self.initial_cluster();
        steps.step(
            &format!("On {node}: etcd first. Its manifest names the whole cluster, and says that it is there already."),
            &[
                format!(
                    "sed -i -E -e '/--initial-cluster(-state)?=/d' -e 's|^( *)- etcd$|&\\n\\1- --initial-cluster={cluster}\\n\\1- \
                     --initial-cluster-state=existing|' {kept}/etcd.yaml"
                ),
                format!("grep -e --initial-cluster {kept}/etcd.yaml"),
                format!("mv {kept}/etcd.yaml {MANIFESTS}/"),
            ],
        );
        steps.step(
            &format!("{in_shell}, until {name} holds what the member there holds."),
            &[until(&format!("same {name}"))],
        );
    }

    /// One whose store nothing speaks against, and which is in another term than the others: it is looked at and started anew.
    fn look(&self, seen: &str, strays: &[&EtcdMember], helper: &EtcdMember) -> String {
        let mut text = format!(
            "What helps where etcd on {} does not follow\n\n{seen}\nA term says nothing of what a member holds, so nobody is emptied \
             here. As root, and read each command first.\n",
            names(strays)
        );
        text += &self.assumed();
        let mut steps = Steps { text, count: 0 };
        let mut first = shell(helper);
        first.extend(["e endpoint status --cluster -w table", ALL_HASHES].map(str::to_owned));
        steps.step(
            &format!("On {}, in a shell that stays open: who leads whom, and what all hold.", helper.node),
            &first,
        );
        let in_shell = format!("On {}, in the shell of step 1", helper.node);
        let container = "\"$(crictl ps -q --name '^etcd$')\"";
        for member in strays {
            let (node, name) = (&member.node, name(member));
            steps.step(
                &format!("On {node}: what it says, and then it is started anew. Its kubelet does that."),
                &[format!("crictl logs --tail=50 {container}"), format!("crictl stop --timeout=30 {container}")],
            );
            steps.step(
                &format!("{in_shell}, until {name} follows and holds what the member there holds."),
                &[healthy(name), until(&format!("same {name}"))],
            );
        }
        steps.text += "\nOne that goes on asking for votes is not heard by the others: look at the way between their peer ports. One that \
                       holds something else has to be rebuilt: run again, which tells how.\n";
        steps.text
    }

    /// Nobody is named as good or bad: all are treated alike.
    fn refuse(&self, seen: &str) -> String {
        let members: Vec<&EtcdMember> = self.0.etcd.iter().collect();
        let mut text = format!(
            "No way back is known for etcd on {}\n\n{seen}\nNo majority of the {} members is known to agree, so nobody can say which \
             stores are good, and none is named here: a rebuild from a wrong one would spread what is wrong. What helps whoever has to \
             decide:\n",
            names(&members),
            members.len()
        );
        text += &self.assumed();
        let mut steps = Steps { text, count: 0 };
        let move_away = |file: &str| format!("mkdir -p /root/etcd-kept && mv {MANIFESTS}/{file}.yaml /root/etcd-kept/");
        let servers: Vec<&str> = self.0.api_servers.iter().map(|s| s.name.as_str()).collect();
        if !servers.is_empty() {
            steps.step(&format!("On each of {}: no more writes.", servers.join(", ")), &[move_away("kube-apiserver")]);
        }
        let folders: BTreeSet<&str> = members.iter().map(|m| data(m)).collect();
        let folder = folders.first().copied().filter(|_| folders.len() == 1).unwrap_or("ITS_DATA_FOLDER");
        steps.step(
            &format!("On each of {}: a copy of what it holds, with nobody writing to it.", names(&members)),
            &[move_away("etcd"), format!("cp -a {folder} /root/etcd-kept/data")],
        );
        let file = "/root/etcd-kept/data/member/snap/db";
        steps.step(
            "Compare the copies with each other and with your backups, with etcd's own etcdutl. Hashes at several revisions tell \
             since when they differ.",
            &[format!("etcdutl snapshot status {file} -w table"), format!("etcdutl hashkv {file} --rev=REVISION")],
        );
        steps.step(
            "Once it is known what to keep, all members are restored from that one copy: see \"Disaster recovery\" in etcd's \
             documentation. etcd is started on all of them, and the API servers after it.",
            &[],
        );
        steps.text
    }

    /// Of the node on which this member is.
    fn server(&self, member: &EtcdMember) -> Option<&ApiServer> {
        self.0.api_servers.iter().find(|s| s.name == member.node)
    }

    /// What stands in the commands and was not read from the cluster.
    fn assumed(&self) -> String {
        let unread = |m: &&EtcdMember| m.name.is_empty() || m.peer_urls.is_empty() || m.data_dir.is_empty();
        let nodes: Vec<&EtcdMember> = self.0.etcd.iter().filter(unread).collect();
        let own = format!("The folders {MANIFESTS} and {CERTIFICATES} are kubeadm's");
        match nodes.is_empty() {
            true => format!("{own}: see that they are yours.\n"),
            false => format!(
                "{own}, and so are the member's name, peer URL and data folder of {}, whose static pod could not be read: see that they \
                 are yours.\n",
                names(&nodes)
            ),
        }
    }

    /// Value of `--initial-cluster`: every URL of every member.
    fn initial_cluster(&self) -> String {
        let urls = |m: &EtcdMember| {
            let name = name(m).to_owned();
            self.peer_urls(m).into_iter().map(move |url| format!("{name}={url}")).collect::<Vec<_>>()
        };
        self.0.etcd.iter().flat_map(urls).collect::<Vec<_>>().join(",")
    }

    /// As its static pod has them, else by the first address by which nodes know each other.
    fn peer_urls(&self, member: &EtcdMember) -> Vec<String> {
        if !member.peer_urls.is_empty() {
            return member.peer_urls.split(',').map(|url| url.trim().to_owned()).collect();
        }
        let node = self.0.node(&member.node);
        let address = node.and_then(|n| n.internal.first().or(n.addresses.first()));
        let host = address.map(|a| SocketAddr::new(*a, member.peer_port).to_string());
        vec![format!("https://{}", host.unwrap_or_else(|| format!("{}:{}", member.node, member.peer_port)))]
    }
}

/// What the shell beside a member needs to know before it asks it. By the runtime and not by kubectl: with an alarm raised the API does
/// not answer. Nor does a container keep its name, whose member is started anew for it.
fn shell(member: &EtcdMember) -> Vec<String> {
    let e = format!(
        "e() {{ crictl exec \"$(crictl ps -q --name '^etcd$')\" etcdctl --endpoints=https://127.0.0.1:{} \
         --cacert={CERTIFICATES}/ca.crt --cert={CERTIFICATES}/server.crt --key={CERTIFICATES}/server.key \
         \"$@\"; }}",
        member.client_port
    );
    vec![e, URL.into(), AT.into(), SAME.into()]
}

/// A line that waits.
fn until(command: &str) -> String {
    format!("until {command}; do sleep 1; done")
}

/// A line that waits for the member of this name, and for the one that is asked. Not for all: of one that only does not follow nobody
/// can say when it will.
fn healthy(name: &str) -> String {
    until(&format!("e endpoint health --endpoints=\"$(url {name})\""))
}

/// Where what a member had is kept, on its node.
fn kept(member: &EtcdMember) -> String {
    format!("/root/etcd-{}", member.node)
}

fn name(member: &EtcdMember) -> &str {
    if member.name.is_empty() { &member.node } else { &member.name }
}

fn data(member: &EtcdMember) -> &str {
    if member.data_dir.is_empty() { DATA } else { &member.data_dir }
}

fn names(members: &[&EtcdMember]) -> String {
    members.iter().map(|m| m.node.as_str()).collect::<Vec<_>>().join(", ")
}

/// Numbered steps.
struct Steps {
    text: String,
    count: u32,
}

impl Steps {
    fn step(&mut self, title: &str, commands: &[String]) {
        self.count += 1;
        self.text += &format!("\n{}. {title}\n", self.count);
        for command in commands {
            self.text += &format!("     {command}\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::fixture::passing;

    /// Three masters as kubeadm makes them.
    fn stacked() -> Snapshot {
        let mut snapshot = passing().snapshot;
        for (i, member) in snapshot.etcd.iter_mut().enumerate() {
            member.name = member.node.clone();
            member.peer_urls = format!("https://198.18.0.{}:2380", i + 1);
            member.data_dir = "/var/lib/etcd".into();
        }
        snapshot
    }

    fn finding(check: Check, subject: &str, result: FindingResult) -> Finding {
        Finding {
            check,
            subject: subject.into(),
            predicted: "every member holds the same".into(),
            observed: "holds something else".into(),
            result,
            tolerance: None,
            evidence: String::new(),
        }
    }

    fn violated(subject: &str) -> Finding {
        finding(Check::StoreAgreement, subject, FindingResult::Violated)
    }

    /// Where each of these stands, which must be in this order.
    #[track_caller]
    fn in_order(text: &str, parts: &[&str]) {
        let mut from = 0;
        for part in parts {
            let rest = &text[from..];
            from += part.len() + rest.find(part).unwrap_or_else(|| panic!("no {part:?} in\n{rest}"));
        }
    }

    #[test]
    fn a_member_is_rebuilt_from_the_majority() {
        let text = runbook(&stacked(), &[violated("cp1")]).unwrap();
        println!("{text}");
        in_order(
            &text,
            &[
                "The way back for etcd on cp1\n",
                "- cp1: holds something else",
                "cp2, cp3 are 2 of 3 members",
                "1. On cp2, in a shell that stays open",
                "etcdctl --endpoints=https://127.0.0.1:2379",
                "e snapshot save /var/lib/etcd/before-rebuild.db",
                "On cp1: its manifests go",
                "mv /etc/kubernetes/manifests/kube-apiserver.yaml /etc/kubernetes/manifests/etcd.yaml /root/etcd-cp1/",
                "e member remove \"$(e member list | grep ', cp1, ' | cut -d, -f1)\"",
                "mv /var/lib/etcd/member /root/etcd-cp1/member",
                "e member add cp1 --peer-urls=https://198.18.0.1:2380",
                "--initial-cluster=cp1=https://198.18.0.1:2380,cp2=https://198.18.0.2:2380,cp3=https://198.18.0.3:2380\\n",
                "--initial-cluster-state=existing",
                "mv /root/etcd-cp1/etcd.yaml /etc/kubernetes/manifests/",
                // With an alarm raised nobody is healthy, and no API server gets ready.
                "On cp2, in the shell of step 1, until cp1 holds",
                "until same cp1; do sleep 1; done",
                "e alarm disarm",
                "until e endpoint health --endpoints=\"$(url cp1)\"; do sleep 1; done",
                "mv /root/etcd-cp1/kube-apiserver.yaml /etc/kubernetes/manifests/",
                "until kubectl --kubeconfig=/etc/kubernetes/admin.conf --server=https://198.18.0.1:6443 get --raw=/readyz; do",
            ],
        );
        assert!(!text.contains("could not be read") && !text.contains("not compared"), "{text}");
    }

    /// So that a program can run what is printed.
    #[test]
    fn each_step_says_where_it_is_run() {
        let stray = finding(Check::EtcdLeaders, "cp1", FindingResult::Violated);
        for (found, steps) in [(violated("cp1"), 9), (stray, 3)] {
            let text = runbook(&stacked(), &[found]).unwrap();
            let titles = text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
            let titles: Vec<&str> = titles.map(|line| line.split_once(". ").unwrap().1).collect();
            assert_eq!(titles.len(), steps, "{text}");
            for title in titles {
                let node = title.strip_prefix("On ").and_then(|rest| rest.split([',', ':']).next());
                assert!(node == Some("cp1") || node == Some("cp2"), "{title}");
            }
        }
    }

    #[test]
    fn what_could_not_be_read_is_kubeadms_and_said() {
        let text = runbook(&passing().snapshot, &[violated("cp3")]).unwrap();
        assert!(text.contains("of cp1, cp2, cp3, whose static pod could not be read"), "{text}");
        assert!(text.contains("e member add cp3 --peer-urls=https://198.18.0.3:2380"), "{text}");
        assert!(text.contains("1. On cp1, in a shell"), "one that is good is asked: {text}");
    }

    #[test]
    fn without_a_majority_nobody_is_named_as_good() {
        let unknown = finding(Check::StoreAgreement, "cp3", FindingResult::Inconclusive);
        for findings in [
            vec![violated(ETCD)],
            vec![violated("cp1"), violated("cp2")],
            vec![violated("cp1"), violated(ETCD)],
            vec![violated("cp1"), unknown],
        ] {
            let text = runbook(&stacked(), &findings).unwrap();
            assert!(text.contains("No majority of the 3 members is known to agree"), "{text}");
            for step in ["member remove", "member add", "--initial-cluster", "snapshot save", "speaks against"] {
                assert!(!text.contains(step), "{step}: {text}");
            }
            in_order(&text, &["On each of cp1, cp2, cp3: no more writes", "On each of cp1, cp2, cp3: a copy"]);
        }
    }

    #[test]
    fn of_two_that_were_not_compared_that_is_said() {
        let open = finding(Check::StoreAgreement, ETCD, FindingResult::Inconclusive);
        let text = runbook(&stacked(), &[violated("cp2"), open]).unwrap();
        assert!(text.contains("cp1, cp3") && text.contains("were not compared in this run"), "{text}");
    }

    #[test]
    fn each_is_rebuilt_by_itself_and_one_that_only_does_not_follow_is_not() {
        let mut snapshot = stacked();
        for i in 4..=5 {
            let peer_urls = format!("https://198.18.0.{i}:2380");
            let node = format!("cp{i}");
            let member = EtcdMember { name: node.clone(), node, peer_urls, ..snapshot.etcd[0].clone() };
            snapshot.etcd.push(member);
        }
        let text = runbook(&snapshot, &[violated("cp1"), violated("cp4")]).unwrap();
        in_order(
            &text,
            &[
                "cp2, cp3, cp5 are 3 of 5",
                "e member add cp1",
                "until same cp1",
                "On cp4: its manifests go",
                "e member add cp4",
                "until same cp4",
                // As long as one of them holds something else, an alarm may be raised again.
                "e alarm disarm",
                "$(url cp1)",
                "$(url cp4)",
                "On cp1: and then the API server",
            ],
        );
        // Where there is no API server.
        assert!(text.contains("mv /etc/kubernetes/manifests/etcd.yaml /root/etcd-cp4/"), "{text}");
        let stray = |node| finding(Check::EtcdLeaders, node, FindingResult::Violated);
        let text = runbook(&snapshot, &[violated("cp1"), stray("cp4")]).unwrap();
        in_order(&text, &["- cp4: ", "cp2, cp3, cp5 are 3 of 5", "e member add cp1"]);
        assert!(!text.contains("e member add cp4") && !text.contains("On cp4"), "{text}");
    }

    #[test]
    fn one_that_does_not_follow_is_started_anew_and_keeps_what_it_holds() {
        let stray = finding(Check::EtcdLeaders, "cp1", FindingResult::Violated);
        let text = runbook(&stacked(), &[stray]).unwrap();
        println!("{text}");
        in_order(
            &text,
            &[
                "What helps where etcd on cp1 does not follow\n",
                "- cp1: holds something else",
                "1. On cp2, in a shell that stays open",
                "e endpoint status --cluster -w table",
                "2. On cp1: ",
                "crictl logs",
                "crictl stop",
                "3. On cp2, in the shell of step 1",
                "until same cp1",
            ],
        );
        for step in ["member remove", "member add", "mv ", "alarm disarm"] {
            assert!(!text.contains(step), "{step}: {text}");
        }
    }

    #[test]
    fn where_all_agree_there_is_nothing_to_do() {
        let held = finding(Check::StoreAgreement, ETCD, FindingResult::Held);
        let two_leaders = finding(Check::EtcdLeaders, ETCD, FindingResult::Violated);
        assert_eq!(runbook(&stacked(), &[held, two_leaders]), None);
        assert_eq!(runbook(&stacked(), &[]), None);
    }

    #[test]
    fn what_the_judge_finds_is_what_the_runbook_reads() {
        let mut run = passing();
        let hash = crate::api::STORE_HASH_AFTER;
        let differs = [("ffffffff at 4711 from 4000", 81.0, 81.0)];
        run.rewrite("cp1", crate::api::SpanKind::Store, hash, &differs);
        let text = runbook(&run.snapshot, &run.judge().findings).unwrap();
        assert!(text.contains("- cp1: holds ffffffff where cp2, cp3 hold 0a1b2c3d"), "{text}");
    }
}

//! Each shape: what it cuts, what it must not cut, and when there is none.

use super::*;

/// One node with a name of its own in each of `n` racks, `n0` in `r0` and so on; an etcd member on each.
fn racks(n: usize) -> Snapshot {
    cluster(&(0..n).collect::<Vec<_>>(), n)
}

fn shape(snapshot: &Snapshot, cut: Value) -> Result<Fault, Refusal> {
    expand(&spec(cut), snapshot)
}

/// Nodes that node `i` hears, itself included.
fn heard(fault: &Fault, n: usize, i: usize) -> BTreeSet<usize> {
    (0..n).filter(|j| !fault.cuts(&format!("n{j}"), &format!("n{i}"))).collect()
}

fn is_symmetric(fault: &Fault) -> bool {
    let names: BTreeSet<&String> = fault.blocks.iter().flat_map(|b| b.from.iter().chain(&b.to)).collect();
    names.iter().all(|a| names.iter().all(|b| fault.cuts(a, b) == fault.cuts(b, a)))
}

fn has_self_edge(fault: &Fault) -> bool {
    fault.blocks.iter().any(|b| b.from.intersection(&b.to).next().is_some())
}

fn groups(of: &[Vec<usize>]) -> Vec<Value> {
    of.iter().map(|g| json!({"racks": g.iter().map(|r| format!("r{r}")).collect::<Vec<_>>()})).collect()
}

/// Nodes in racks of one to three and an endpoint in one of them or in none; the racks are dealt to three groups.
#[derive(Debug)]
struct Dealt {
    snapshot: Snapshot,
    /// Each member and its rack.
    members: Vec<(String, Option<usize>)>,
    groups: Vec<Vec<usize>>,
}

impl Dealt {
    /// Whoever is in no rack is in none of them.
    fn group(&self, rack: Option<usize>) -> Option<usize> {
        self.groups.iter().position(|g| rack.is_some_and(|rack| g.contains(&rack)))
    }
    /// Each pair of members, with their groups.
    fn pairs(&self) -> impl Iterator<Item = [(&str, Option<usize>); 2]> {
        let all = || self.members.iter().map(|(name, rack)| (name.as_str(), self.group(*rack)));
        all().flat_map(move |a| all().map(move |b| [a, b]))
    }
}

fn dealt() -> impl Strategy<Value = Dealt> {
    let racks = prop::collection::vec((0usize..3, 1usize..4), 4..10);
    (racks, prop::option::of(0usize..4)).prop_filter_map("three groups, none empty", |(deal, endpoint)| {
        let of = |g: usize| (0..deal.len()).filter(|r| deal[*r].0 == g).collect::<Vec<_>>();
        let groups = vec![of(0), of(1), of(2)];
        let nodes: Vec<usize> = deal.iter().enumerate().flat_map(|(rack, (_, size))| vec![rack; *size]).collect();
        let mut snapshot = cluster(&nodes, 3);
        snapshot.endpoints[0].rack = endpoint.map(|rack| format!("r{rack}"));
        let of_nodes = nodes.iter().enumerate().map(|(i, rack)| (format!("n{i}"), Some(*rack)));
        let members = of_nodes.chain([("lb".to_owned(), endpoint)]).collect();
        groups.iter().all(|g| !g.is_empty()).then_some(Dealt { snapshot, members, groups })
    })
}

proptest! {
    #[test]
    fn a_split_lets_nobody_cross_and_whoever_is_left_over_is_a_group(dealt in dealt()) {
        let fault = shape(&dealt.snapshot, json!({"split": {"groups": groups(&dealt.groups[..2])}})).unwrap();
        for [(a, of_a), (b, of_b)] in dealt.pairs() {
            // The last group, and who is in none.
            let [of_a, of_b] = [of_a, of_b].map(|g| g.unwrap_or(2));
            prop_assert_eq!(fault.cuts(a, b), of_a != of_b, "{} to {}", a, b);
        }
        prop_assert!(is_symmetric(&fault) && !has_self_edge(&fault));
    }

    #[test]
    fn a_bridge_hears_everybody_and_is_heard(dealt in dealt(), is_named in any::<bool>()) {
        let mut bridge = json!({"groups": groups(&dealt.groups[..2])});
        if is_named {
            bridge["bridge"] = groups(&dealt.groups[2..])[0].clone();
            // Nobody else may be left over then.
            let in_no_rack = dealt.members.iter().any(|(_, rack)| rack.is_none());
            if in_no_rack {
                bridge["bridge"]["endpoints"] = json!(["lb"]);
            }
        }
        let fault = shape(&dealt.snapshot, json!({"bridge": bridge})).unwrap();
        for [(a, of_a), (b, of_b)] in dealt.pairs() {
            let [of_a, of_b] = [of_a, of_b].map(|g| g.filter(|g| *g < 2));
            let cut = of_a.is_some() && of_b.is_some() && of_a != of_b;
            prop_assert_eq!(fault.cuts(a, b), cut, "{} to {}", a, b);
        }
        prop_assert!(is_symmetric(&fault) && !has_self_edge(&fault));
    }

    #[test]
    fn isolate_equals_a_split_into_one_and_the_rest(racks in prop::collection::vec(0usize..5, 2..12), chosen in 0usize..5) {
        prop_assume!(racks.contains(&chosen) && racks.iter().any(|r| *r != chosen));
        let snapshot = cluster(&racks, 3.min(racks.len()));
        let selection = json!({"racks": [format!("r{chosen}")]});
        let isolate = shape(&snapshot, json!({"isolate": selection})).unwrap();
        let split = shape(&snapshot, json!({"split": {"groups": [selection]}})).unwrap();
        prop_assert_eq!(isolate.blocks, split.blocks);
    }

    #[test]
    fn a_ring_gives_each_a_majority_and_no_two_the_same(n in 4usize..16) {
        let fault = shape(&racks(n), json!({"ring": {}}));
        if n % 2 == 1 && (n / 2) % 2 == 1 {
            prop_assert!(matches!(fault, Err(Refusal::NoSuchRing { .. })), "{:?}", fault);
            return Ok(());
        }
        let fault = fault.unwrap();
        let all: BTreeSet<BTreeSet<usize>> = (0..n).map(|i| heard(&fault, n, i)).collect();
        prop_assert_eq!(all.len(), n, "two hear the same");
        for hears in &all {
            prop_assert_eq!(hears.len(), n / 2 + 1);
        }
        prop_assert!((0..n).all(|i| heard(&fault, n, i).contains(&i)));
        prop_assert!(is_symmetric(&fault) && !has_self_edge(&fault));
    }

    #[test]
    fn a_star_hears_its_hub_and_a_chain_its_neighbours(n in 3usize..10, hub in 0usize..10) {
        prop_assume!(hub < n);
        let star = shape(&racks(n), json!({"star": {"hub": {"racks": [format!("r{hub}")]}}})).unwrap();
        let chain = shape(&racks(n), json!({"chain": {}})).unwrap();
        for i in 0..n {
            let of_star = if i == hub { (0..n).collect() } else { BTreeSet::from([i, hub]) };
            prop_assert_eq!(heard(&star, n, i), of_star);
            prop_assert_eq!(heard(&chain, n, i), (i.saturating_sub(1)..=(i + 1).min(n - 1)).collect());
        }
        prop_assert!(is_symmetric(&star) && is_symmetric(&chain) && !has_self_edge(&star) && !has_self_edge(&chain));
    }

    #[test]
    fn nodes_of_a_rack_hear_the_same_in_a_ring_a_star_and_a_chain(sizes in prop::collection::vec(1usize..4, 4..10)) {
        let nodes: Vec<usize> = sizes.iter().enumerate().flat_map(|(rack, size)| vec![rack; *size]).collect();
        let (many, one) = (cluster(&nodes, 3), racks(sizes.len()));
        for cut in [json!({"ring": {}}), json!({"star": {"hub": {"racks": ["r1"]}}}), json!({"chain": {}})] {
            let (Ok(fault), Ok(of_racks)) = (shape(&many, cut.clone()), shape(&one, cut.clone())) else {
                prop_assert!(shape(&many, cut.clone()).is_err() && shape(&one, cut).is_err());
                continue;
            };
            for (i, a) in nodes.iter().enumerate() {
                for (j, b) in nodes.iter().enumerate() {
                    let wanted = of_racks.cuts(&format!("n{a}"), &format!("n{b}"));
                    prop_assert_eq!(fault.cuts(&format!("n{i}"), &format!("n{j}")), wanted, "n{} to n{} in {}", i, j, &cut);
                }
            }
            prop_assert!(!has_self_edge(&fault));
        }
    }

    #[test]
    fn edges_that_overlap_are_counted_once(pairs in prop::collection::vec((0usize..4, 0usize..4, any::<bool>()), 1..6)) {
        let edge = |(a, b, both): &(usize, usize, bool)| {
            json!({"from": {"racks": [format!("r{a}")]}, "to": {"racks": [format!("r{b}")]}, "both": both})
        };
        let mut wanted: BTreeSet<(usize, usize)> = pairs.iter().map(|(a, b, _)| (*a, *b)).collect();
        wanted.extend(pairs.iter().filter(|p| p.2).map(|(a, b, _)| (*b, *a)));
        wanted.retain(|(a, b)| a != b);
        let is_vacuous = pairs.iter().any(|(a, b, _)| a == b);
        match shape(&racks(4), json!({"edges": pairs.iter().map(edge).collect::<Vec<_>>()})) {
            Err(refusal) => prop_assert!(matches!(refusal, Refusal::Empty { .. }) && is_vacuous, "{}", refusal),
            Ok(fault) => {
                prop_assert!(!is_vacuous, "one that cuts nothing went unnoticed");
                prop_assert_eq!(fault.edges(), wanted.len());
                for a in 0..4 {
                    for b in 0..4 {
                        let cut = fault.cuts(&format!("n{a}"), &format!("n{b}"));
                        prop_assert_eq!(cut, wanted.contains(&(a, b)), "{} to {}", a, b);
                    }
                }
            }
        }
    }
}

#[test]
fn one_way_is_one_way() {
    let fault = shape(&racks(3), json!({"edges": [{"from": {"racks": ["r0"]}, "to": {"nodes": ["n1"]}}]})).unwrap();
    assert!(fault.cuts("n0", "n1") && !fault.cuts("n1", "n0"));
    assert_eq!((fault.edges(), fault.title.as_str()), (1, "edges r0→n1"));
}

#[test]
fn what_has_no_exact_form_is_refused_with_a_sentence() {
    let refused = |n: usize, cut: Value| shape(&racks(n), cut).unwrap_err().to_string();
    for n in [2, 3, 7, 11] {
        assert!(refused(n, json!({"ring": {}})).contains("no exact ring"), "{n}");
    }
    for (cut, words) in [
        (json!({"chain": {"members": [{"racks": ["r0"]}, {"racks": ["r1", "r2"]}]}}), "is empty"),
        (json!({"star": {"hub": {"racks": ["r0"]}, "members": [{"racks": ["r1", "r2"]}]}}), "is empty"),
        (json!({"split": {"groups": [{"racks": ["r0"]}, {"nodes": ["n0"]}]}}), "n0 is in two groups"),
        (json!({"chain": {"members": [{"racks": ["r0"]}, {"racks": ["r1"]}]}}), "n2 is in no group"),
        (
            json!({"bridge": {"groups": [{"racks": ["r0"]}, {"racks": ["r1"]}], "bridge": {"racks": ["r2"]}}}),
            "lb is in no group",
        ),
        (json!({"split": {"groups": [{"racks": ["r0"]}, {"racks": ["r1", "r2"]}]}}), "lb is in no group"),
        (json!({"bridge": {"groups": [{"racks": ["r0"]}, {"racks": ["r1", "r2"]}]}}), "lb is in no group"),
        (json!({"edges": [{"from": {"racks": ["r0"]}, "to": {"endpoints": ["lb"]}}]}), "nobody could drop"),
        (json!({"isolate": {"nodes": ["n9"]}}), "no node n9"),
        (json!({"isolate": {"endpoints": ["vip"]}}), "no endpoint vip"),
        (json!({"isolate": {"role": "etcd-leader"}}), "etcd-leader stands for nobody"),
    ] {
        let sentence = refused(3, cut.clone());
        assert!(sentence.contains(words), "{cut}: {sentence}");
    }
}

#[test]
fn nodes_and_endpoints_can_be_named_alone() {
    let cut = json!({"split": {"groups": [{"nodes": ["n0"]}, {"racks": ["r1", "r2"], "endpoints": ["lb"]}]}});
    let fault = shape(&racks(3), cut).unwrap();
    assert!(fault.cuts("lb", "n0") && !fault.cuts("lb", "n1"));
    assert_eq!(fault.title, "split n0 | r1+r2+lb");
}

#[test]
fn an_endpoint_in_no_rack_goes_on_being_heard_in_a_ring_and_the_plan_says_so() {
    let fault = shape(&racks(5), json!({"ring": {}})).unwrap();
    assert!((0..5).all(|i| !fault.cuts("lb", &format!("n{i}"))));
    assert_eq!(fault.assumptions, ["lb is in no rack: everybody goes on hearing it"]);
}

#[test]
fn sides_by_quorum_share_out_the_racks() {
    let snapshot = cluster(&[1, 2, 2, 3], 3);
    let isolated = |role: &str| shape(&snapshot, json!({"isolate": {"role": role}})).unwrap();
    assert_eq!(isolated("quorum-side").title, "isolate r2");
    assert_eq!(isolated("minority-side").title, "isolate r1+r3");
    assert_eq!(isolated("minority-side").resolved_roles["minority-side"], "r1+r3");
    let mut known = snapshot.clone();
    known.etcd[0].leads = Some(true);
    let fault = shape(&known, json!({"isolate": {"role": "etcd-leader"}})).unwrap();
    assert_eq!((fault.title.as_str(), fault.resolved_roles["etcd-leader"].as_str()), ("isolate r1", "n0"));
}

#[test]
fn a_sealed_side_hears_nobody_but_itself() {
    let fault = shape(&racks(3), json!({"isolate": {"racks": ["r0"], "outside": true}})).unwrap();
    let plan = plan(&racks(3), &fault);
    assert_eq!(plan.sealed, BTreeSet::from(["n0".to_owned()]));
}

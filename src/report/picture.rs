//! A fault as a picture: who still hears whom, as one SVG that needs nothing else.

use crate::{
    fault::{Effect, Fault, Kind, enforcer, kind, sides},
    topology::Snapshot,
};
use std::f64::consts::TAU;

/// Width and height of the picture, pixels.
const SIZE: (f64, f64) = (420.0, 300.0);
/// Radius of the circle that everybody stands on, and of everybody, pixels.
const CIRCLE: f64 = 105.0;
const DOT: f64 = 26.0;

/// One who stands on the circle: a rack whose nodes are alike, a node, or an endpoint.
struct Standing {
    label: String,
    /// A member that stands for all of them.
    member: String,
    kind: Kind,
    at: (f64, f64),
}

/// Draws a line between any two that hear each other, an arrow where only one hears the other, and a dashed line where neither
/// does.
pub fn picture(snapshot: &Snapshot, fault: &Fault) -> String {
    let standing = standing(snapshot, fault);
    let mut lines = String::new();
    for (i, a) in standing.iter().enumerate() {
        for b in &standing[i + 1..] {
            lines += &line(fault, a, b);
        }
    }
    let dots: String = standing.iter().map(dot).collect();
    let (width, height) = SIZE;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif">
<title>{title}</title>
<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L10 5L0 10z" fill="#b45309"/></marker></defs>
<rect width="{width}" height="{height}" fill="#ffffff"/>
{lines}{dots}<text x="{middle}" y="{bottom}" text-anchor="middle" font-size="13" fill="#334155">{title}</text>
</svg>
"##,
        title = caption(fault),
        middle = width / 2.0,
        bottom = height - 10.0,
    )
}

fn caption(fault: &Fault) -> String {
    let effect = match fault.pattern.effect {
        Effect::Drop => String::new(),
        Effect::Reject => ", rejected".into(),
        Effect::LossPerPacket { percent } => format!(", {percent} % of packets lost"),
        Effect::LossPerFlow { percent } => format!(", {percent} % of flows lost"),
    };
    let traffic = match (fault.ports.is_everything(), fault.ports.pods) {
        (true, _) => String::new(),
        (false, pods) => {
            let mut named: Vec<String> = fault.ports.ports.iter().map(|(p, port)| format!("{p:?} {port}")).collect();
            named.extend(pods.then(|| "pods".to_owned()));
            format!(", only {}", named.join(", "))
        }
    };
    let flap = fault.pattern.flap.map_or(String::new(), |(down, up)| format!(", {down} s down and {up} s up"));
    let stagger = if fault.pattern.early_seconds.is_empty() { "" } else { ", racks heal one after another" };
    escaped(&format!("{}{traffic}{effect}{flap}{stagger}", fault.title))
}

fn standing(snapshot: &Snapshot, fault: &Fault) -> Vec<Standing> {
    let sides = sides(snapshot, fault);
    let alike = |rack: &str| sides.iter().filter(|s| s.racks.iter().any(|r| r == rack)).count() == 1;
    let mut names: Vec<(String, String)> = Vec::new();
    for rack in snapshot.racks() {
        let mut nodes = snapshot.nodes.iter().filter(|n| n.rack.as_deref() == Some(rack)).peekable();
        match (alike(rack), nodes.peek()) {
            (true, Some(first)) => names.push((rack.to_owned(), first.name.clone())),
            _ => names.extend(nodes.map(|n| (n.name.clone(), n.name.clone()))),
        }
    }
    names.extend(snapshot.endpoints.iter().map(|e| (e.name.clone(), e.name.clone())));
    let count = names.len() as f64;
    let place = |i: usize| {
        let angle = TAU * i as f64 / count - TAU / 4.0;
        (SIZE.0 / 2.0 + CIRCLE * 1.35 * angle.cos(), SIZE.1 / 2.0 - 12.0 + CIRCLE * angle.sin())
    };
    let all = names.into_iter().enumerate();
    all.map(|(i, (label, member))| Standing { kind: kind(snapshot, &member), label, member, at: place(i) }).collect()
}

fn line(fault: &Fault, a: &Standing, b: &Standing) -> String {
    // What nobody drops arrives: between two endpoints, and at an endpoint unless nodes are asked to drop what they send there.
    let cut = |from: &Standing, to: &Standing| {
        let is_dropped = enforcer((&from.member, from.kind), (&to.member, to.kind)).is_some();
        is_dropped && fault.cuts(&from.member, &to.member)
    };
    let (from, to, style) = match (cut(a, b), cut(b, a)) {
        (false, false) => (a, b, r##"stroke="#15803d" stroke-width="3""##),
        (true, true) => (a, b, r##"stroke="#dc2626" stroke-width="1" stroke-dasharray="3 6""##),
        (false, true) => (a, b, r##"stroke="#b45309" stroke-width="2" marker-end="url(#arrow)""##),
        (true, false) => (b, a, r##"stroke="#b45309" stroke-width="2" marker-end="url(#arrow)""##),
    };
    let (dx, dy) = (to.at.0 - from.at.0, to.at.1 - from.at.1);
    let length = dx.hypot(dy).max(1.0);
    let (ux, uy) = (dx / length * (DOT + 2.0), dy / length * (DOT + 2.0));
    let (x1, y1, x2, y2) = (from.at.0 + ux, from.at.1 + uy, to.at.0 - ux, to.at.1 - uy);
    format!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" {style}/>"#) + "\n"
}

fn dot(one: &Standing) -> String {
    let (x, y) = one.at;
    let label = escaped(&one.label);
    let size = if label.len() > 6 { 9.0 } else { 13.0 };
    let shape = match one.kind {
        Kind::Node => format!(r##"<circle cx="{x:.1}" cy="{y:.1}" r="{DOT}" fill="#e2e8f0" stroke="#334155"/>"##),
        Kind::Endpoint { .. } => {
            // A letter is about half as wide as it is high.
            let (width, height) = ((label.len() as f64 * size * 0.55 + 8.0).max(2.0 * DOT), 1.4 * DOT);
            let (left, top) = (x - width / 2.0, y - height / 2.0);
            format!(
                r##"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" rx="4" fill="#fef3c7" stroke="#334155"/>"##
            )
        }
    };
    let text = y + 4.0;
    format!(
        r##"{shape}<text x="{x:.1}" y="{text:.1}" text-anchor="middle" font-size="{size}" fill="#0f172a">{label}</text>"##
    ) + "\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fault::expand,
        topology::{Endpoint, Node},
    };
    use serde_json::{Value, json};

    /// What a line has in it that both hear, that one hears, and that nobody hears.
    const BOTH: &str = r#"stroke-width="3""#;
    const ONE: &str = "marker-end";
    const NOBODY: &str = "stroke-dasharray";

    /// Lines of this kind in the picture of a cut of the racks `r0` and `r1`, a node each, and the endpoints `a` and `b`.
    fn lines(egress: bool, cut: Value, kind: &str) -> Vec<String> {
        let node = |i: u8| Node { name: format!("n{i}"), rack: Some(format!("r{i}")), ..Default::default() };
        let endpoint = |name: &str| Endpoint { name: name.into(), egress, ..Default::default() };
        let snapshot = Snapshot {
            nodes: vec![node(0), node(1)],
            endpoints: vec![endpoint("a"), endpoint("b")],
            ..Default::default()
        };
        let spec = serde_json::from_value(json!({"cut": cut, "duration": "60s"})).unwrap();
        let drawn = picture(&snapshot, &expand(&spec, &snapshot).unwrap());
        drawn.lines().filter(|l| l.starts_with("<line") && l.contains(kind)).map(str::to_owned).collect()
    }

    #[test]
    fn what_a_rack_sends_to_an_endpoint_arrives_unless_nodes_drop_it() {
        let isolate = || json!({"isolate": {"racks": ["r0"]}});
        let one_way = json!({"edges": [{"from": {"endpoints": ["a", "b"]}, "to": {"racks": ["r0"]}}]});
        let counts = |egress| [BOTH, ONE, NOBODY].map(|kind| lines(egress, isolate(), kind).len());
        assert_eq!(counts(false), [3, 2, 1], "r0 is heard by a and b, and by r1 no more");
        assert_eq!(counts(true), [3, 0, 3]);
        assert_eq!(lines(false, isolate(), ONE), lines(false, one_way, ONE), "the endpoints are not heard");
    }

    #[test]
    fn two_endpoints_go_on_hearing_each_other() {
        let isolate = || json!({"isolate": {"endpoints": ["a"]}});
        let counts = |egress| [BOTH, ONE, NOBODY].map(|kind| lines(egress, isolate(), kind).len());
        assert_eq!(counts(false), [4, 2, 0]);
        assert_eq!(counts(true), [4, 0, 2]);
    }
}

//! `make bench`: how fast and how precise a cut is, beside the mechanism that peers use. Figures, no test: a missed target is
//! printed and not a failure. What each figure means is in `docs/benchmarks.md`.

mod arm;
mod edges;
mod figure;
#[path = "../../tests/kernel/fixture.rs"]
#[expect(dead_code, reason = "the kernel tests need more of it")]
mod fixture;
mod heal;
mod machine;
mod peers;
mod report;
mod skew;
mod stream;
mod table;
mod throughput;

use figure::Figure;

/// Of every figure, unless its module says more: enough for a worst case that means something.
const ROUNDS: usize = 60;

type Measurement = fn() -> Vec<Figure>;
const MEASUREMENTS: [(&str, Measurement); 6] = [
    ("arm", arm::measure),
    ("edges", edges::measure),
    ("skew", skew::measure),
    ("heal", heal::measure),
    ("throughput", throughput::measure),
    ("peers", peers::measure),
];

fn main() -> anyhow::Result<()> {
    machine::require_root()?;
    // `cargo bench` says `--bench`. A word chooses measurements, for whoever works on one of them.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!("{}", machine::describe());
    let mut figures = Vec::new();
    for (name, measure) in MEASUREMENTS {
        if chosen.is_empty() || chosen.iter().any(|c| c == name) {
            eprintln!("measuring: {name}");
            figures.extend(measure());
        }
    }
    println!("{}\n{}", report::table(&figures), machine::load());
    // Part of the figures would pass for all of them.
    if chosen.is_empty() {
        report::write(&figures, report::PATH)?;
        println!("written to target/bench.json");
    }
    Ok(())
}

//! One figure: what was measured, how often, and what it is held against.

/// Which way a figure is good, and with that which sample is its worst.
#[derive(Clone, Copy)]
pub enum Better {
    Lower,
    Higher,
}

pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub samples: Vec<f64>,
    pub better: Better,
    /// What it must not be above (below, where higher is better).
    pub target: Option<f64>,
    /// What it stands beside, where that is no target.
    pub beside: Option<String>,
}

impl Figure {
    pub fn new(name: impl Into<String>, unit: &'static str, samples: Vec<f64>) -> Self {
        let name = name.into();
        assert!(!samples.is_empty() && samples.iter().all(|s| s.is_finite()), "failed to measure: {name}");
        Self { name, unit, samples, better: Better::Lower, target: None, beside: None }
    }
    pub fn higher_is_better(mut self) -> Self {
        self.better = Better::Higher;
        self
    }
    pub fn target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }
    pub fn beside(mut self, what: impl Into<String>) -> Self {
        self.beside = Some(what.into());
        self
    }
    pub fn median(&self) -> f64 {
        median(&self.samples)
    }
    pub fn worst(&self) -> f64 {
        let worse = match self.better {
            Better::Lower => f64::max,
            Better::Higher => f64::min,
        };
        self.samples.iter().copied().reduce(worse).expect("checked in `new`")
    }
    /// Whether a value of this figure meets its target; `None` where it has none.
    pub fn meets(&self, value: f64) -> Option<bool> {
        self.target.map(|target| match self.better {
            Better::Lower => value <= target,
            Better::Higher => value >= target,
        })
    }
}

pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

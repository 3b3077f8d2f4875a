//! Text for people: the findings as a table, the verdict in a line, the plan before anything is cut. And for programs what is worked
//! out from files.

mod by_hand;
mod findings;
mod not_made;
mod picture;
mod plan;
mod run;
mod runbook;
mod table;
#[cfg(test)]
mod tests;
mod unsupported;

pub use by_hand::{
    Edges, Guard, GuardResult, JudgementReport, JudgementVersion, PlanReport, PlanVersion, plan_report_text,
};
pub use findings::{findings_table, verdict_line};
pub use not_made::{not_made, not_made_line};
pub use picture::picture;
pub use plan::{plan_text, prediction_table};
pub use run::{summary, text};
pub use runbook::runbook;
pub use unsupported::{NOT_SUPPORTED, PARTS_NOT_SUPPORTED, not_supported, unsupported};

//! Text for people: the findings as a table, the verdict in a line, the plan before anything is cut.

mod findings;
mod picture;
mod plan;
mod run;
mod table;
#[cfg(test)]
mod tests;

pub use findings::{findings_table, verdict_line};
pub use picture::picture;
pub use plan::{plan_text, prediction_table};
pub use run::{summary, text};

//! Lists of names in sentences for people. A cut of thousands of nodes must leave room for what else a status says.

use std::borrow::Borrow;

/// Names of a list that one sentence of a status tells. Ours.
pub const NAMED: usize = 10;

/// The first `shown` names of a list, and how many more there are.
pub fn first<S: Borrow<str>>(names: &[S], shown: usize) -> String {
    match names.len() {
        n if n > shown => format!("{} and {} more", names[..shown].join(", "), n - shown),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_the_first_are_told() {
        assert_eq!(first(&["w1", "w2"], 2), "w1, w2");
        assert_eq!(first(&["w1", "w2", "w3"], 2), "w1, w2 and 1 more");
        assert_eq!(first::<String>(&[], 2), "");
    }
}

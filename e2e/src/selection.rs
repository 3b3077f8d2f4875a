//! Which of many cells are run: those that somebody names, a share of them, and from one on where an earlier run stopped.

use anyhow::{Context, Result, ensure};

/// All, unless more is said. Cells are numbered from 1 among all that there are, whichever are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// A cell is meant that has every word of one of these.
    named: Vec<Vec<String>>,
    /// The first number of so many parts as the second one says: contiguous ones of about the same size.
    share: Option<(usize, usize)>,
    /// The first number that is run.
    from: usize,
}

impl Selection {
    /// From `CELLS` ("CutApiServer InTheCut,Node Held"), `SHARE` ("2/5") and `FROM` ("31"), each of which may be missing or empty.
    ///
    /// # Errors
    /// With what they should look like.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let said = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let words = |part: &str| part.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let named: Option<Vec<Vec<String>>> =
            said("CELLS").map(|cells| cells.split(',').map(words).filter(|w| !w.is_empty()).collect());
        let share = said("SHARE").map(|share| {
            let numbers = |(a, b): (&str, &str)| -> Option<(usize, usize)> {
                Some((a.trim().parse().ok()?, b.trim().parse().ok()?))
            };
            let is_share = |(part, parts): &(usize, usize)| (1..=*parts).contains(part);
            let share_of = share.split_once('/').and_then(numbers).filter(is_share);
            share_of.with_context(|| format!("SHARE is such as 2/5, the second of five, and not {share}"))
        });
        let from = said("FROM").map(|from| {
            let number: Option<usize> = from.trim().parse().ok();
            number.with_context(|| format!("FROM is the number of a cell, and not {from}"))
        });
        Ok(Selection {
            named: named.unwrap_or_default(),
            share: share.transpose()?,
            from: from.transpose()?.unwrap_or_default(),
        })
    }

    /// The numbers of those that are meant, of all that there are.
    ///
    /// # Errors
    /// Where a name fits nobody, or nobody is left.
    pub fn numbers(&self, all: &[String]) -> Result<Vec<usize>> {
        let has = |cell: &str, word: &String| cell.split(' ').any(|part| part == word);
        let fits = |words: &Vec<String>, cell: &str| words.iter().all(|word| has(cell, word));
        for words in &self.named {
            let one = all.first().map_or("none", String::as_str);
            let is_there = all.iter().any(|cell| fits(words, cell));
            ensure!(is_there, "no cell is called {:?}; one is {one:?}", words.join(" "));
        }
        let is_named = |cell: &String| self.named.is_empty() || self.named.iter().any(|words| fits(words, cell));
        let named: Vec<usize> = (1..).zip(all).filter(|(_, cell)| is_named(cell)).map(|(number, _)| number).collect();
        let (part, parts) = self.share.unwrap_or((1, 1));
        let end = |part: usize| named.len() * part / parts;
        let mut chosen = named[end(part - 1)..end(part)].to_vec();
        chosen.retain(|number| *number >= self.from);
        ensure!(!chosen.is_empty(), "of {} cells none is left", named.len());
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELLS: [&str; 6] = [
        "Agent Armed Killed",
        "Node Armed Killed",
        "Agent InTheCut Killed",
        "Node InTheCut Killed",
        "Agent InTheCut Held",
        "Node InTheCut Held",
    ];

    fn chosen(cells: &str, share: &str, from: &str) -> Result<Vec<usize>> {
        let said = |name: &str| match name {
            "CELLS" => Some(cells.to_owned()),
            "SHARE" => Some(share.to_owned()),
            _ => Some(from.to_owned()),
        };
        Selection::of(said)?.numbers(&CELLS.map(str::to_owned))
    }

    #[test]
    fn whoever_says_nothing_means_all() {
        assert_eq!(Selection::of(|_| None).unwrap(), Selection::default());
        assert_eq!(chosen("", " ", "").unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_cell_has_every_word_of_one_of_the_names() {
        assert_eq!(chosen("Agent InTheCut", "", "").unwrap(), [3, 5]);
        assert_eq!(chosen("Held Node, Agent Armed", "", "").unwrap(), [1, 6]);
        let error = chosen("Agent,InTheCu", "", "").unwrap_err().to_string();
        assert_eq!(error, "no cell is called \"InTheCu\"; one is \"Agent Armed Killed\"");
    }

    #[test]
    fn shares_are_all_of_them_together_and_none_twice() {
        for parts in 1..=6 {
            let share = |part: usize| chosen("", &format!("{part}/{parts}"), "").unwrap();
            let all: Vec<usize> = (1..=parts).flat_map(share).collect();
            assert_eq!(all, [1, 2, 3, 4, 5, 6], "of {parts}");
        }
        assert_eq!(chosen("InTheCut", "2/2", "").unwrap(), [5, 6]);
        for share in ["0/5", "6/5", "2", "a/b", "1/0"] {
            assert!(chosen("", share, "").is_err(), "{share}");
        }
    }

    #[test]
    fn it_goes_on_by_the_number_that_was_told() {
        assert_eq!(chosen("", "", "5").unwrap(), [5, 6]);
        assert_eq!(chosen("Agent", "2/2", "4").unwrap(), [5]);
        assert_eq!(chosen("", "", "7").unwrap_err().to_string(), "of 6 cells none is left");
        assert!(chosen("", "", "x").is_err());
    }
}

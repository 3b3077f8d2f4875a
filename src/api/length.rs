//! Lengths of time as people write them, in Go's notation. `kube::core::Duration` panics at a sign in the middle, and at a number that is too
//! large for it, so what it is given is looked at before.

use kube::core::Duration;
use serde::{Deserialize, Deserializer, de::Error};

/// Characters of one that is read: as many as the definition allows.
const LONGEST: usize = 32;
/// Of any unit no more than these: 114,000 years of hours. So many hours for every character are still a [`std::time::Duration`].
const MOST: f64 = 1e9;

/// What `text` says.
///
/// # Errors
/// Where it says nothing, something negative, or more than anybody waits for.
pub fn parse_length(text: &str) -> Result<Duration, String> {
    let mut numbers = text.split(char::is_alphabetic).filter(|number| !number.is_empty());
    let is_small = |number: &str| number.parse::<f64>().is_ok_and(|number| (0.0..=MOST).contains(&number));
    match (1..=LONGEST).contains(&text.len()) && numbers.all(is_small) {
        true => text.parse().map_err(|error| format!("{text:?} is no length of time such as 1m30s: {error}")),
        false => {
            let shown: String = text.chars().take(LONGEST).collect();
            Err(format!("{shown:?} is no length of time such as 1m30s"))
        }
    }
}

/// For a field of an object.
pub fn length<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_length(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// For one that may be left out.
pub fn length_if_any<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(from)?.map(|text| parse_length(&text).map_err(D::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time;

    #[test]
    fn what_people_write_is_read_and_nothing_that_would_panic() {
        let read = |text: &str| parse_length(text).ok().map(time::Duration::from);
        for (text, seconds) in
            [("85s", 85.0), ("1m30s", 90.0), ("1h0m0.5s", 3600.5), ("250ms", 0.25), ("0", 0.0), ("3µs", 3e-6)]
        {
            assert_eq!(read(text), Some(time::Duration::from_secs_f64(seconds)), "{text}");
        }
        let long = format!("{}ms", "6".repeat(120));
        let largest = "999999999h".repeat(3);
        for text in [
            "",
            "-5s",
            "5s-3s",
            "1h-1s",
            "5",
            "s",
            "5 s",
            "NaNs",
            "infs",
            "9999999999999999999999999999h",
            "1e400s",
            &long,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(read(&largest).is_some());
        for text in ["", "-5s", &long] {
            let refused = parse_length(text).unwrap_err();
            assert!(refused.contains("is no length of time such as 1m30s") && refused.len() < 100, "{refused}");
        }
    }
}

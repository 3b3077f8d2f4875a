//! Spans as one short text. An agent uploads them so once its part of the run is over: what it saw is complete then but for the watch on
//! the recovery, and is written again every few seconds until that ends. The operator does where it saw more than fits as it is.

use super::{NodeRecord, NodeRecordStatus, Observer, Span};
use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use std::io::Read;
use thiserror::Error;

/// Bytes of JSON that a text may become: few bytes of a forged one would else fill the memory of whoever reads it. A full record has
/// less than 700 KiB (`Recorder::BOUND`), and no object in etcd more than 1.5 MiB.
const MOST: u64 = 2 * MEBIBYTE;
/// The same of the operator's record, of which there is one: `Recorder::PACKED_BOUND` are up to 4 MB of JSON.
const MOST_OF_OPERATOR: u64 = 8 * MEBIBYTE;
const MEBIBYTE: u64 = 1024 * 1024;

/// Why packed spans can't be read.
#[derive(Debug, Error)]
pub enum Error {
    #[error("packedSpans is no base64: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("packedSpans is no gzip: {0}")]
    Gzip(#[from] std::io::Error),
    #[error("packedSpans becomes more than {} MiB", .0 / MEBIBYTE)]
    TooMuch(u64),
    #[error("packedSpans holds no spans: {0}")]
    Spans(#[from] serde_json::Error),
    #[error("spans and packedSpans are both there: nobody can tell which count")]
    Both,
}

/// Base64 of gzip of the JSON that stands in `spans` otherwise.
fn pack(spans: &[Span]) -> String {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut gzip, spans).expect("plain data");
    STANDARD.encode(gzip.finish().expect("memory"))
}

fn unpack(text: &str, most: u64) -> Result<Vec<Span>, Error> {
    let compressed = STANDARD.decode(text)?;
    let mut json = Vec::new();
    // One byte more tells what is too much from what just fits.
    let read = GzDecoder::new(compressed.as_slice()).take(most + 1).read_to_end(&mut json)?;
    if read as u64 > most {
        return Err(Error::TooMuch(most));
    }
    Ok(serde_json::from_slice(&json)?)
}

impl NodeRecordStatus {
    /// The same with its spans packed.
    #[must_use]
    pub fn packed(self) -> Self {
        NodeRecordStatus { packed_spans: Some(pack(&self.spans)), spans: Vec::new(), ..self }
    }

    /// As [`NodeRecord::unpack`], of a text that becomes no more than so many bytes.
    fn unpack(&mut self, most: u64) -> Result<(), Error> {
        let Some(text) = &self.packed_spans else { return Ok(()) };
        if !self.spans.is_empty() {
            return Err(Error::Both);
        }
        self.spans = unpack(text, most)?;
        self.packed_spans = None;
        Ok(())
    }
}

impl NodeRecord {
    /// Puts its spans into `spans`, whichever way they were written. Whoever wants spans of a record that somebody else wrote asks this
    /// first.
    ///
    /// # Errors
    /// Where they can't be read: then nobody knows what was seen, and it stays as it is.
    pub fn unpack(&mut self) -> Result<(), Error> {
        let most = match self.spec.observer {
            Observer::Agent => MOST,
            Observer::Operator => MOST_OF_OPERATOR,
        };
        self.status.as_mut().map_or(Ok(()), |status| status.unpack(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::NodeRecordSpec, judge::tests::fixture::passing};
    use std::io::Write;

    /// What an agent of the fixture saw.
    fn status() -> NodeRecordStatus {
        passing().status("cp1").clone()
    }

    fn gzip(bytes: &[u8]) -> String {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(bytes).unwrap();
        STANDARD.encode(gzip.finish().unwrap())
    }

    fn unpacked(mut status: NodeRecordStatus) -> NodeRecordStatus {
        status.unpack(MOST).unwrap();
        status
    }

    fn refused(packed: &str) -> Error {
        let status = NodeRecordStatus { packed_spans: Some(packed.into()), ..NodeRecordStatus::default() };
        let mut tried = status.clone();
        let error = tried.unpack(MOST).unwrap_err();
        assert_eq!(tried, status, "nothing is made up");
        error
    }

    #[test]
    fn what_is_packed_is_the_same_when_it_is_unpacked_and_shorter_before() {
        let plain = status();
        let packed = plain.clone().packed();
        assert!(packed.spans.is_empty() && packed.phase == plain.phase);
        let length = |status: &NodeRecordStatus| serde_json::to_string(status).unwrap().len();
        assert!(length(&packed) * 2 < length(&plain), "{} of {}", length(&packed), length(&plain));
        // As the API server passes it on.
        let json = serde_json::to_string(&packed).unwrap();
        assert!(json.contains("packedSpans") && !json.contains("\"spans\""), "{json}");
        let read: NodeRecordStatus = serde_json::from_str(&json).unwrap();
        assert_eq!(unpacked(read), plain);
    }

    #[test]
    fn plain_spans_stay_as_they_are_and_none_are_none() {
        assert_eq!(unpacked(status()), status());
        let none = NodeRecordStatus::default();
        let packed = none.clone().packed();
        assert!(packed.packed_spans.is_some(), "none were seen, which is not that nobody says");
        assert_eq!(unpacked(packed), none);
    }

    #[test]
    fn what_is_no_such_text_is_an_error() {
        assert!(matches!(refused("?"), Error::Base64(_)));
        assert!(matches!(refused(""), Error::Gzip(_)));
        assert!(matches!(refused(&STANDARD.encode("no gzip at all")), Error::Gzip(_)));
        assert!(matches!(refused(&gzip(b"{}")), Error::Spans(_)));
        assert!(matches!(refused(&gzip(b"[{\"kind\": \"Guess\"}]")), Error::Spans(_)));
        let whole = STANDARD.decode(pack(&status().spans)).unwrap();
        let half = STANDARD.encode(&whole[..whole.len() / 2]);
        assert!(matches!(refused(&half), Error::Gzip(_)));
        let mut altered = whole;
        let last = altered.len() - 5;
        altered[last] ^= 1;
        assert!(matches!(refused(&STANDARD.encode(&altered)), Error::Gzip(_)), "its checksum");
    }

    #[test]
    fn what_would_fill_the_memory_is_refused_and_what_just_fits_is_read() {
        let blank = |bytes: u64| {
            let mut text = vec![b' '; bytes as usize - 2];
            text.extend(b"[]");
            gzip(&text)
        };
        assert!(unpack(&blank(MOST), MOST).unwrap().is_empty());
        let bomb = blank(MOST + 1);
        assert!(bomb.len() < 10_000, "{} bytes", bomb.len());
        let error = refused(&bomb);
        assert!(matches!(error, Error::TooMuch(MOST)));
        assert_eq!(error.to_string(), "packedSpans becomes more than 2 MiB");
        // The operator's may be longer, and not without a bound either.
        let of = |observer: Observer, bytes: u64| {
            let status = NodeRecordStatus { packed_spans: Some(blank(bytes)), ..NodeRecordStatus::default() };
            let spec = NodeRecordSpec::new("run", "1", "w1", observer);
            NodeRecord { status: Some(status), ..NodeRecord::new("record", spec) }.unpack().is_ok()
        };
        assert!(!of(Observer::Agent, MOST + 1) && of(Observer::Operator, MOST + 1));
        assert!(!of(Observer::Operator, MOST_OF_OPERATOR + 1));
    }

    #[test]
    fn spans_in_both_forms_are_refused() {
        let plain = status();
        let mut both = NodeRecordStatus { spans: plain.spans.clone(), ..plain.packed() };
        assert!(matches!(both.unpack(MOST), Err(Error::Both)));
    }
}

//! One line for each step of long work, with the time since the start.

use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();
static TO_STDERR: AtomicBool = AtomicBool::new(false);

/// Starts the clock.
pub fn begin() {
    START.get_or_init(Instant::now);
}

/// Keeps stdout for a command's answer, so that a shell can capture it.
pub fn to_stderr() {
    TO_STDERR.store(true, Ordering::Relaxed);
}

/// Says what begins now.
pub fn step(text: impl Display) {
    let elapsed = START.get_or_init(Instant::now).elapsed().as_secs_f32();
    if TO_STDERR.load(Ordering::Relaxed) {
        eprintln!("[{elapsed:6.1}s] {text}");
    } else {
        println!("[{elapsed:6.1}s] {text}");
    }
}

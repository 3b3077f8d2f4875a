//! The process on every node during a run: arms the kernel, watches from where it stands, writes down what it saw.

mod decide;
mod error;
mod firewall;
mod journal;
mod kernel;
mod state;

pub use error::Error;

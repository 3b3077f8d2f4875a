//! Pulling an image, without waiting long for a registry that is not there.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::engine::Engine;
use crate::progress::step;

/// How long a registry may take to answer at all.
const ANSWER: Duration = Duration::from_secs(8);

/// How long a pull that has begun may say nothing: its layers are large and only their ends are told.
const SILENCE: Duration = Duration::from_secs(300);

/// Pulls `image`; false when no registry answers or it does not give the image.
pub async fn pull(engine: &Engine, image: &str) -> Result<bool> {
    step(format!("pulling {image}"));
    let mut docker = engine.docker();
    docker.args(["pull", image]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = docker.spawn().context("failed to start `docker pull`")?;
    let mut lines = BufReader::new(child.stdout.take().context("docker pull has no stdout")?).lines();
    let mut patience = ANSWER;
    loop {
        match timeout(patience, lines.next_line()).await {
            Ok(Ok(Some(_))) => patience = SILENCE,
            Ok(_) => return Ok(child.wait().await?.success()),
            Err(_) => {
                child.kill().await.context("failed to end `docker pull`")?;
                return Ok(false);
            }
        }
    }
}

//! The container engine: the one that answers, else Debian's, started by the lab.

mod daemon;

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::process::Command;
use tokio::time::timeout;

use crate::progress::step;
use crate::{cache, host, run};

/// An engine that answers.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Set where the client is too new to speak to the engine by itself.
    pub api_version: Option<String>,
}

/// The oldest API that anything here needs, spoken by Debian 12's engine.
const DEBIAN_API: &str = "1.41";

impl Engine {
    /// The engine that answers now, if any.
    pub async fn running() -> Option<Engine> {
        for api_version in [None, Some(DEBIAN_API.to_owned())] {
            let engine = Engine { api_version };
            let mut version = engine.docker();
            version.args(["version", "--format", "{{.Server.APIVersion}}"]);
            if let Ok(Ok(_)) = timeout(Duration::from_secs(10), run::text(&mut version)).await {
                return Some(engine);
            }
        }
        None
    }

    /// An engine that answers, installed and started if there is none.
    ///
    /// # Errors
    /// With what to install or start, where the lab cannot do it.
    pub async fn ensure() -> Result<Engine> {
        if run::find("docker").is_some()
            && let Some(engine) = Engine::running().await
        {
            return Ok(engine);
        }
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            bail!("no container engine answers at DOCKER_HOST={host}: start it, or unset DOCKER_HOST");
        }
        if !host::is_root_on_debian() {
            bail!(
                "no container engine answers: start Docker and let this user reach it \
                 (as root on Debian the lab would install and start one itself)"
            );
        }
        let _lock = cache::lock("engine").await?;
        host::ensure(&[("dockerd", "docker.io"), ("docker", "docker.io"), ("setsid", "util-linux")], "a lab").await?;
        match Engine::running().await {
            Some(engine) => Ok(engine),
            None => daemon::start().await,
        }
    }

    /// Whether the engine that runs is one that the lab started.
    pub fn is_own() -> bool {
        daemon::is_running()
    }

    /// Ends the engine if the lab started it; says which.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop_own() -> Result<()> {
        let _lock = cache::lock("engine").await?;
        match daemon::stop().await? {
            true => step("stopped the engine that the lab had started"),
            false => step("no engine of the lab's is running; any other was left alone"),
        }
        Ok(())
    }

    /// `docker`, set up for this engine.
    #[must_use]
    pub fn docker(&self) -> Command {
        self.set_up(run::program("docker"))
    }

    /// Any program that calls `docker` itself.
    #[must_use]
    pub fn set_up(&self, mut command: Command) -> Command {
        if let Some(version) = &self.api_version {
            command.env("DOCKER_API_VERSION", version);
        }
        // The old builder is enough here, and the new one is an extra that many machines lack.
        command.env("DOCKER_BUILDKIT", "0");
        command
    }

    /// The id of a local image.
    pub async fn image_id(&self, image: &str) -> Option<String> {
        run::text(self.docker().args(["image", "inspect", "--format", "{{.Id}}", image])).await.ok()
    }
}

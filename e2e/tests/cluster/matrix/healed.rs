//! Condition `Healed`, beside what the nodes themselves say and what their kernels hold.

use crate::harness::Harness;
use anyhow::{Context, Result, bail, ensure};
use kube::ResourceExt;
use rackpartition::api::{FINALIZER, NodeRecord, NodeRecordStatus, RecordPhase, conditions, table_name};
use std::time::Duration;

/// Until the operator has looked at what is so now, and agents that have just started again have spoken.
const SOON: Duration = Duration::from_secs(60);

/// One look.
struct Healed {
    /// Status and message; `None` before anything was to be healed.
    condition: Option<(String, String)>,
    /// Nobody writes to the run any more.
    is_final: bool,
    /// The nodes that may have the run's table and don't say that it is gone.
    silent: Vec<String>,
    /// The nodes that have it.
    holding: Vec<String>,
}

impl Healed {
    /// The condition is read first, for a table that is gone stays so. Nobody can look into nodes that are paused.
    async fn look(h: &Harness, name: &str, paused: &[&str]) -> Result<Self> {
        let run = h.runs().get(name).await?;
        let uid = run.uid().context("no uid")?;
        let is_final = run.finalizers().iter().all(|f| f != FINALIZER);
        let status = run.status.unwrap_or_default();
        let records = h.records(name).await?;
        let table = table_name(&uid);
        let (mut silent, mut holding) = (Vec::new(), Vec::new());
        for node in h.lab.nodes().iter().map(|n| n.name.as_str()) {
            let record = records.iter().find(|r| r.spec.node == node && r.spec.run_uid == uid);
            // Before there is a schedule, whoever never said that it is armed may never have been.
            let may_hold = status.schedule.is_some() || record.is_some_and(says_armed);
            if may_hold && !record.is_some_and(says_gone) {
                silent.push(node.to_owned());
            }
            let holds = |tables: Vec<String>| tables.iter().any(|line| line.ends_with(&table));
            if !paused.contains(&node) && holds(h.tables_on(node).await?) {
                holding.push(node.to_owned());
            }
        }
        let condition = status.conditions.into_iter().find(|c| c.type_ == conditions::HEALED);
        Ok(Healed { condition: condition.map(|c| (c.status, c.message)), is_final, silent, holding })
    }

    /// # Errors
    /// Where it is True, and a node has the table, or is one of those that can't speak now and had not spoken before.
    fn tells_no_lie(&self, mute: &[&str]) -> Result<()> {
        let is_true = self.condition.as_ref().is_some_and(|(status, _)| status == "True");
        let unheard: Vec<&String> = self.silent.iter().filter(|n| mute.contains(&n.as_str())).collect();
        ensure!(
            !is_true || (self.holding.is_empty() && unheard.is_empty()),
            "Healed is True, and the table is on {:?}, and {unheard:?} did not say that it is gone",
            self.holding
        );
        Ok(())
    }

    /// Nodes that have not spoken and are not named. True names nobody.
    fn left_out(&self) -> Vec<&str> {
        let message = self.condition.as_ref().map(|(_, message)| message.as_str()).unwrap_or_default();
        let is_named = |node: &str| message.split([' ', ',']).any(|word| word == node);
        self.silent.iter().map(String::as_str).filter(|node| !is_named(node)).collect()
    }
}

/// While these nodes can't speak: Healed is not True, unless they spoke before, and comes to name them.
pub async fn names_the_mute(h: &Harness, name: &str, paused: &[&str], mute: &[&str]) -> Result<()> {
    h.until(&format!("Healed to name {mute:?}"), SOON, async |h: &Harness| {
        let healed = Healed::look(h, name, paused).await?;
        if let Err(lie) = healed.tells_no_lie(mute) {
            // Not to be looked at again: it may be mended by then.
            return Ok(Some(Err(lie)));
        }
        let left_out = healed.left_out();
        ensure!(!mute.iter().any(|node| left_out.contains(node)), "{:?} leaves out {left_out:?}", healed.condition);
        Ok(Some(Ok(())))
    })
    .await?
}

/// When nobody writes to the run any more: Healed is True by every node's word, or Unknown and names each that has not spoken. Says which
/// nodes still have the run's table.
pub async fn is_what_the_nodes_say(h: &Harness, name: &str) -> Result<Vec<String>> {
    h.until("Healed to be what the nodes say", SOON, async |h: &Harness| {
        let healed = Healed::look(h, name, &[]).await?;
        if let Err(lie) = healed.tells_no_lie(&[]) {
            return Ok(Some(Err(lie)));
        }
        if !healed.is_final {
            bail!("its operator has not let it go yet");
        }
        let left_out = healed.left_out();
        ensure!(left_out.is_empty(), "{:?} leaves out {left_out:?}", healed.condition);
        let (status, message) = healed.condition.context("nobody said whether it is healed")?;
        ensure!(status == "True" || status == "Unknown", "Healed is {status}: {message}");
        Ok(Some(Ok(healed.holding)))
    })
    .await?
}

/// The node says that its part is over and that no table is there.
fn says_gone(record: &NodeRecord) -> bool {
    let Some(NodeRecordStatus { kernel: Some(kernel), phase: Some(phase), .. }) = &record.status else { return false };
    !kernel.table && !matches!(phase, RecordPhase::Armed | RecordPhase::Loaded)
}

fn says_armed(record: &NodeRecord) -> bool {
    let phase = record.status.as_ref().and_then(|s| s.phase);
    matches!(phase, Some(RecordPhase::Armed | RecordPhase::Loaded))
}

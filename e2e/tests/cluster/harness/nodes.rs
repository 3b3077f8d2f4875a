//! What nodes have in their kernels, and whom they reach.

use super::Harness;
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

/// Connects to the kubelet at each of these addresses, one behind the other, and writes down the first from which nothing comes within 3 s,
/// which is when `timeout` exits with 124. Whoever refuses was reached. Anything else is a failure and says nothing about packets: another
/// error of the connection, or a program that is not there.
const REACH: &str = r#"
for address; do
  answer=$(timeout 3 bash -c 'exec 3<>"/dev/tcp/$1/10250"' connect "$address" 2>&1)
  code=$?
  case $code:$answer in
    0:* | 1:*refused*) ;;
    124:*) echo "$address"; exit ;;
    *) echo "$address: exit code $code: $answer" >&2; exit 1 ;;
  esac
done
"#;

impl Harness {
    /// Tables of ours on a node, by `nft` in the node itself.
    pub async fn tables_on(&self, node: &str) -> Result<Vec<String>> {
        let tables = self.lab.exec(node, &["nft", "list", "tables"]).await?;
        Ok(tables.lines().filter(|l| l.contains("inet rackpartition")).map(str::to_owned).collect())
    }

    /// No table of ours on any node, by the deadline.
    pub async fn no_tables(&self, deadline: Duration) -> Result<()> {
        self.until("every table of ours to be gone", deadline, async |h: &Harness| {
            for node in h.lab.nodes() {
                let tables = h.tables_on(&node.name).await?;
                ensure!(tables.is_empty(), "{}: {tables:?}", node.name);
            }
            Ok(Some(()))
        })
        .await
    }

    /// Packets pass between every node and every kubelet's port: nothing of ours has effect any more. One that is not up yet refuses,
    /// which is an answer.
    pub async fn all_hear_each_other(&self) -> Result<()> {
        self.hear_each_other_but(&[]).await
    }

    /// The same of all nodes but these, in each family that they have.
    pub async fn hear_each_other_but(&self, silent: &[&str]) -> Result<()> {
        match self.first_silence(silent).await? {
            Some((from, to)) => bail!("{from} does not reach every node: no answer from {to}"),
            None => Ok(()),
        }
    }

    /// A node, and an address of another one from which nothing comes back to it; `None` where all but these hear each other. A look that
    /// fails is an error and no silence.
    pub async fn first_silence(&self, but: &[&str]) -> Result<Option<(String, String)>> {
        let nodes = || self.lab.nodes().iter().filter(|n| !but.contains(&n.name.as_str()));
        for from in nodes() {
            let others = nodes().flat_map(|to| to.addresses.iter().map(String::as_str));
            let words: Vec<&str> = ["bash", "-c", REACH, "reach"].into_iter().chain(others).collect();
            let looked = self.lab.exec(&from.name, &words).await;
            let silent = looked.with_context(|| format!("whom {} reaches is not known", from.name))?;
            if !silent.is_empty() {
                return Ok(Some((from.name.clone(), silent)));
            }
        }
        Ok(None)
    }
}

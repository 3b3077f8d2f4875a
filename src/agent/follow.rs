//! Follows one object by its name, over failures and changes of the API server.

use crate::api::is_gone;
use futures::{StreamExt, pin_mut};
use kube::{
    Api, Resource, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, time::Duration};
use tokio::time::sleep;

/// After a failure. Short, since the heal ends failures all at once and the record is to be there soon after.
const RETRY: Duration = Duration::from_millis(500);
/// Between two watches, so that a server which ends them at once is not asked in a loop.
const PAUSE: Duration = Duration::from_millis(50);
/// Asked of the API server; the route ends watches that died silently.
const WATCH_SECONDS: u32 = 20;

/// What is known of the object.
#[derive(Clone, Debug)]
pub enum Seen<K> {
    There(K),
    /// An API server that has quorum said that there is no such object.
    Gone,
}

/// Calls `each` for every state of the object that was seen. Never returns.
pub async fn follow<K>(api: Api<K>, name: &str, mut each: impl FnMut(Seen<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut said = String::new();
    loop {
        match once(&api, name, &mut each).await {
            Ok(()) => {
                said.clear();
                sleep(PAUSE).await;
            }
            Err(error) => {
                // The isolated side fails for the whole cut: each failure is told once.
                let text = error.to_string();
                if text != said {
                    tracing::warn!(name, error = text, "failed to follow");
                    said = text;
                }
                sleep(RETRY).await;
            }
        }
    }
}

/// Reads the object, which takes a quorum of etcd, and then watches it until the watch ends.
async fn once<K>(api: &Api<K>, name: &str, each: &mut impl FnMut(Seen<K>)) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let object = match api.get(name).await {
        Err(kube::Error::Api(status)) if is_gone(&status, name) => {
            each(Seen::Gone);
            sleep(RETRY).await;
            return Ok(());
        }
        other => other?,
    };
    let version = object.resource_version().unwrap_or_default();
    each(Seen::There(object));
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    let events = api.watch(&params, &version).await?;
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => each(Seen::There(object)),
            // The next read says it for certain: a watch is served from a cache.
            WatchEvent::Deleted(_) => return Ok(()),
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            WatchEvent::Bookmark(_) => {}
        }
    }
    Ok(())
}

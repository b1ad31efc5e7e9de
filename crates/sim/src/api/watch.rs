//! watch: the changes of a collection as they happen, one JSON document per line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::auth::User;
use super::call::{Call, json_response};
use super::cluster::Cluster;
use super::kinds::Kind;
use super::read::Filter;
use super::status::{ApiError, Result};
use super::store::{Change, Stored};

/// Kubernetes picks between half an hour and an hour; what counts is that clients must cope.
const LONGEST: Duration = Duration::from_secs(1800);
/// How often a quiet watch that wants bookmarks gets one.
const BOOKMARK: Duration = Duration::from_secs(60);

struct Watch {
    cluster: Arc<Cluster>,
    user: User,
    kind: Arc<Kind>,
    namespace: Option<String>,
    filter: Filter,
    changed: tokio::sync::watch::Receiver<u64>,
    /// Everything up to here has been told.
    seen: u64,
    ready: VecDeque<Bytes>,
    ended: bool,
    end: Instant,
    bookmarks: bool,
    stop: CancellationToken,
}

pub(crate) fn start(call: &Call) -> Result<Response> {
    let filter = Filter::of(call)?;
    let store = &call.cluster.store;
    let asked = match call.param("resourceVersion") {
        None | Some("" | "0") => None,
        Some(text) => Some(text.parse::<u64>().map_err(|_| {
            ApiError::bad_request(format!("invalid resourceVersion {text:?}: it must be a number that the server gave"))
        })?),
    };
    let initial = call.flag("sendInitialEvents");
    let longest = call.param("timeoutSeconds").and_then(|text| text.parse().ok()).filter(|&n| n > 0);
    let changed = store.subscribe(&call.kind.shelf);
    let mut watch = Watch {
        cluster: call.cluster.clone(),
        user: call.user.clone(),
        kind: call.kind.clone(),
        namespace: call.namespace.clone(),
        filter,
        changed,
        seen: 0,
        ready: VecDeque::new(),
        ended: false,
        end: Instant::now() + longest.map_or(LONGEST, Duration::from_secs),
        bookmarks: call.flag("allowWatchBookmarks"),
        stop: call.cluster.stop.clone(),
    };
    if let (false, Some(version)) = (initial, asked) {
        watch.seen = version;
    } else {
        let (version, objects) = store.list(&call.kind.shelf, call.namespace.as_deref());
        watch.seen = version;
        for object in objects.iter().filter(|object| watch.filter.matches(object)) {
            let line = watch.line("ADDED", object);
            watch.ready.push_back(line);
        }
        if initial && watch.bookmarks {
            let line = watch.bookmark(true);
            watch.ready.push_back(line);
        }
    }
    let lines = stream::unfold(watch, async |mut watch| {
        let line = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(line), watch))
    });
    Ok(json_response(StatusCode::OK, Body::from_stream(lines)))
}

impl Watch {
    /// The next lines to send; nothing when the watch has ended.
    async fn next(&mut self) -> Option<Bytes> {
        let bookmark_due = Instant::now() + BOOKMARK;
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            self.changed.borrow_and_update();
            self.collect();
            if !self.ready.is_empty() || self.ended {
                continue;
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep_until(self.end) => return None,
                changed = self.changed.changed() => changed.ok()?,
                () = tokio::time::sleep_until(bookmark_due), if self.bookmarks => {
                    return Some(self.bookmark(false));
                }
            }
        }
    }

    /// Turns what has happened since the last look into lines.
    fn collect(&mut self) {
        match self.cluster.store.since(&self.kind.shelf, self.seen) {
            Ok(changes) => {
                let mut lines = BytesMut::new();
                for change in changes {
                    self.seen = change.version;
                    if let Some(line) = self.tell(&change) {
                        lines.put_slice(&line);
                    }
                }
                if !lines.is_empty() {
                    self.ready.push_back(lines.freeze());
                }
            }
            Err(too_old) => {
                let error = ApiError::expired(format!("too old resource version: {} ({})", self.seen, too_old.oldest));
                let line = json!({ "type": "ERROR", "object": error.status() });
                self.ready.push_back(format!("{line}\n").into());
                self.ended = true;
            }
        }
    }

    /// A change as this watch sees it: an object that comes into the selection is added, one that leaves it is deleted.
    fn tell(&self, change: &Change) -> Option<Bytes> {
        let Change { version, object, previous, removed } = change;
        if self.namespace.as_deref().is_some_and(|wanted| object.value["metadata"]["namespace"] != wanted) {
            return None;
        }
        let before = previous.as_deref().is_some_and(|previous| self.filter.matches(previous));
        let after = !removed && self.filter.matches(object);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(self.line("ADDED", object)),
            (true, true) => Some(self.line("MODIFIED", object)),
            (true, false) if *removed => Some(self.line("DELETED", object)),
            (true, false) => {
                let mut last = previous.as_ref()?.value.clone();
                last["metadata"]["resourceVersion"] = version.to_string().into();
                Some(self.line("DELETED", &Stored::new(last)))
            }
        }
    }

    fn line(&self, event: &str, object: &Stored) -> Bytes {
        let json = match self.cluster.shown(&self.user, &self.kind, &object.value) {
            Some(edited) => edited.to_string().into(),
            None => object.json(),
        };
        let mut line = BytesMut::with_capacity(json.len() + 40);
        line.put_slice(b"{\"type\":\"");
        line.put_slice(event.as_bytes());
        line.put_slice(b"\",\"object\":");
        line.put_slice(&json);
        line.put_slice(b"}\n");
        line.freeze()
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let mut object = json!({
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(),
            "metadata": { "resourceVersion": self.seen.to_string(), "creationTimestamp": Value::Null },
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        format!("{}\n", json!({ "type": "BOOKMARK", "object": object })).into()
    }
}

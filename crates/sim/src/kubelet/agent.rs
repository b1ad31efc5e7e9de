//! What the API server asks of the kubelet: exec and logs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::Kubelet;
use super::pod::PodRuntime;
use super::state::Slot;
use crate::runtime::read_log;
use crate::{AgentError, ExecRequest, ExecSession, LogRequest, NodeAgent};

#[async_trait]
impl NodeAgent for Kubelet {
    async fn exec(&self, request: ExecRequest) -> Result<ExecSession, AgentError> {
        let ExecRequest { namespace, pod, container, command, stdin } = request;
        let (_, slot) = self.slot_of(&namespace, &pod, &container)?;
        let running = slot.running.as_ref().ok_or_else(|| AgentError::NotRunning(slot.name().to_owned()))?;
        running.exec(&command, stdin).await
    }

    async fn logs(&self, request: LogRequest) -> Result<BoxStream<'static, io::Result<Bytes>>, AgentError> {
        let LogRequest { namespace, pod, container, previous, follow, tail_lines } = request;
        let (runtime, slot) = self.slot_of(&namespace, &pod, &container)?;
        let file = |suffix: &str| -> PathBuf { runtime.logs.join(format!("{}{suffix}.log", slot.name())) };
        if previous {
            let path = file(".previous");
            if !path.exists() {
                return Err(AgentError::NotFound(format!(
                    "previous terminated container {:?} in pod {pod:?}",
                    slot.name()
                )));
            }
            return Ok(read_log(&path, tail_lines, None)?);
        }
        let path = file("");
        if !path.exists() {
            return Err(AgentError::NotRunning(slot.name().to_owned()));
        }
        let current = slot.running.as_ref().map(|container| Arc::clone(&container.log)).filter(|_| follow);
        Ok(read_log(&path, tail_lines, current.as_deref())?)
    }
}

impl Kubelet {
    fn slot_of(&self, namespace: &str, pod: &str, container: &str) -> Result<(Arc<PodRuntime>, Slot), AgentError> {
        let missing = || AgentError::NotFound(format!("pods {pod:?}"));
        let runtime = self.find(namespace, pod).ok_or_else(missing)?;
        let wanted = if container.is_empty() { runtime.default_container() } else { container.to_owned() };
        let slot = runtime.state.borrow().slots.iter().find(|slot| slot.name() == wanted).cloned();
        let slot = slot.ok_or_else(|| AgentError::NotFound(format!("container {wanted} of pod {namespace}/{pod}")))?;
        Ok((runtime, slot))
    }
}

impl PodRuntime {
    /// The container that is meant when none is named.
    fn default_container(&self) -> String {
        let pod = self.pod();
        let annotations = pod.metadata.annotations.as_ref();
        let named = annotations.and_then(|map| map.get("kubectl.kubernetes.io/default-container"));
        let first =
            || pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| container.name.clone());
        named.cloned().or_else(first).unwrap_or_default()
    }
}

//! AdmissionReview in, AdmissionReview out; versions v1 and v1beta1, which differ in nothing that is used here.

use crate::inject::mutate;
use crate::patch::diff;
use crate::{Decision, Refusal, Settings, SkipReason, Surroundings, decide};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request that cannot be answered, because it is no AdmissionReview or has no request in it.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not the JSON of an AdmissionReview.
    #[error("failed to read the body as an AdmissionReview: {0}; send admission.k8s.io/v1 or v1beta1 as JSON")]
    Unreadable(#[source] serde_json::Error),
    /// Some other version or kind.
    #[error(
        "failed to answer {kind:?} of {api_version:?}: only AdmissionReview of admission.k8s.io/v1 and v1beta1 is known"
    )]
    Unknown {
        /// The kind received.
        kind: String,
        /// The version received.
        api_version: String,
    },
    /// Nothing is asked.
    #[error("failed to find a request in the AdmissionReview: field request is missing")]
    Empty,
}

/// An object that is not a Pod.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the object as a Pod: {0}")]
pub struct NotAPod(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    object: Value,
}

#[derive(Default, Deserialize)]
struct Kind {
    #[serde(default)]
    kind: String,
}

/// One review, read as far as it needs to be to decide.
pub struct Review {
    api_version: String,
    request: Request,
}

/// The answer to one review.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: String,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    message: String,
}

/// What became of a review, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The Pod was admitted as it is.
    Unchanged,
    /// The Pod was admitted with a patch.
    Injected,
    /// The Pod was refused.
    Refused,
}

impl Review {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// It is not a review that could be answered.
    pub fn parse(body: &[u8]) -> Result<Self, ReviewError> {
        let Received { api_version, kind, request } = serde_json::from_slice(body).map_err(ReviewError::Unreadable)?;
        if kind != "AdmissionReview"
            || !["admission.k8s.io/v1", "admission.k8s.io/v1beta1"].contains(&api_version.as_str())
        {
            return Err(ReviewError::Unknown { kind, api_version });
        }
        Ok(Self { api_version, request: request.ok_or(ReviewError::Empty)? })
    }

    /// Name of the Namespace that the object is created in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.request.namespace
    }

    /// Name of the object, or what its name will be made of.
    #[must_use]
    pub fn name(&self) -> &str {
        let metadata = &self.request.object["metadata"];
        let candidates =
            [Some(self.request.name.as_str()), metadata["name"].as_str(), metadata["generateName"].as_str()];
        candidates.into_iter().flatten().find(|name| !name.is_empty()).unwrap_or("(unnamed)")
    }

    /// The object as a Pod.
    ///
    /// # Errors
    /// It is none.
    pub fn pod(&self) -> Result<Pod, NotAPod> {
        let object = &self.request.object;
        if !object["metadata"].is_object() || !object["spec"].is_object() {
            return Err(NotAPod("metadata and spec must be objects".to_owned()));
        }
        Pod::deserialize(object).map_err(|error| NotAPod(error.to_string()))
    }

    /// The answer where the Namespace need not be known: the Pod is left alone, or nobody can tell whether it should be.
    /// `None` means that it is to be injected.
    #[must_use]
    pub fn decide(&self, pod: &Pod, settings: &Settings) -> Option<Answer> {
        match decide(pod, self.namespace(), settings) {
            Ok(Decision::Inject) => None,
            Ok(Decision::Skip(reason)) => Some(self.unchanged(reason)),
            Err(refusal) => Some(self.refused(&refusal)),
        }
    }

    /// Answers for a Pod that is to be injected.
    #[must_use]
    pub fn inject(&self, pod: &Pod, surroundings: &Surroundings, settings: &Settings) -> Answer {
        let injected = match mutate(pod, surroundings, settings) {
            Ok(injected) => injected,
            Err(refusal) => return self.refused(&refusal),
        };
        // Both sides as this program understands them: fields of a newer Kubernetes are no part of the difference.
        let patch = serde_json::to_value(pod)
            .and_then(|before| Ok(diff(&before, &serde_json::to_value(&injected)?)))
            .and_then(|patch| serde_json::to_vec(&patch));
        match patch {
            Ok(patch) => self.answer(true, 200, format!("valid {} request", self.kind()), Some(&patch), Vec::new()),
            Err(error) => self.failed(400, format!("failed to write the patch for {}: {error}", self.name())),
        }
    }

    /// Answers that the webhook itself cannot do its work.
    #[must_use]
    pub fn failed(&self, code: u16, message: String) -> Answer {
        self.answer(false, code, message, None, Vec::new())
    }

    fn unchanged(&self, reason: SkipReason) -> Answer {
        let warnings = match reason {
            SkipReason::HostNetwork => vec![format!("pod {} stays outside the mesh: {reason}", self.name())],
            _ => Vec::new(),
        };
        let message = format!("{} {} does not require injection: {reason}", self.kind(), self.name());
        self.answer(true, 200, message, None, warnings)
    }

    fn refused(&self, refusal: &Refusal) -> Answer {
        self.failed(422, format!("{} {} cannot be injected: {refusal}", self.kind(), self.name()))
    }

    fn answer(&self, allowed: bool, code: u16, message: String, patch: Option<&[u8]>, warnings: Vec<String>) -> Answer {
        let response = Response {
            uid: self.request.uid.clone(),
            allowed,
            status: Status { code, message },
            patch_type: patch.map(|_| "JSONPatch"),
            patch: patch.map(|patch| STANDARD.encode(patch)),
            warnings,
        };
        Answer { api_version: self.api_version.clone(), kind: "AdmissionReview", response }
    }

    fn kind(&self) -> &str {
        let kind = self.request.kind.kind.as_str();
        if kind.is_empty() { "Pod" } else { kind }
    }
}

impl Answer {
    /// What became of the Pod.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (self.response.allowed, &self.response.patch) {
            (false, _) => Outcome::Refused,
            (true, Some(_)) => Outcome::Injected,
            (true, None) => Outcome::Unchanged,
        }
    }

    /// What the answer says in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.response.status.message
    }
}

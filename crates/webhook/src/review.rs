//! AdmissionReview in, AdmissionReview out; versions v1 and v1beta1, which differ in nothing that is used here.

use crate::inject::mutate;
use crate::original;
use crate::patch::Before;
use crate::{Decision, Refusal, Settings, SkipReason, Surroundings, decide};
use base64::Engine;
use base64::engine::{Simd, general_purpose::PAD};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::LazyLock;

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
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to read the object as a Pod: {0}")]
pub struct NotAPod(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    uid: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    /// Read once it is known that somebody asks for it, and straight into its type.
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Kind {
    #[serde(default)]
    kind: String,
}

/// Finds out once what the processor can do. A patch has tens of kilobytes.
static BASE64: LazyLock<Simd> = LazyLock::new(|| Simd::standard(PAD));

/// One review.
#[derive(Clone)]
pub struct Review {
    api_version: String,
    uid: String,
    kind: String,
    name: String,
    namespace: String,
    pod: Result<Pod, NotAPod>,
    /// The object's JSON, if it is short enough to be kept in an annotation.
    text: Option<String>,
}

/// The answer to one review.
#[derive(Debug)]
pub struct Answer {
    api_version: String,
    response: Response,
    /// JSON.
    patch: Option<Vec<u8>>,
    subject: String,
    outcome: Outcome,
}

/// An answer as it is sent, without its patch, which is put into the response at the end.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: &'a Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    status: Status,
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
    /// Nothing could be said about the Pod.
    Failed,
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
        let Request { uid, kind, name, namespace, object } = request.ok_or(ReviewError::Empty)?;
        let pod = pod(object);
        let metadata = pod.as_ref().map(|pod| &pod.metadata).ok();
        let candidates = [
            Some(name.as_str()),
            metadata.and_then(|metadata| metadata.name.as_deref()),
            metadata.and_then(|metadata| metadata.generate_name.as_deref()),
        ];
        let name = candidates.into_iter().flatten().find(|name| !name.is_empty()).unwrap_or("(unnamed)").to_owned();
        let kind = if kind.kind.is_empty() { "Pod".to_owned() } else { kind.kind };
        let text = object.map(RawValue::get).filter(|text| text.len() <= original::LIMIT).map(str::to_owned);
        Ok(Self { api_version, uid, kind, name, namespace, pod, text })
    }

    /// Name of the Namespace that the object is created in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name of the object, or what its name will be made of.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Pod's labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.pod.as_ref().ok().and_then(|pod| pod.metadata.labels.as_ref()).unwrap_or(&NONE)
    }

    /// The object as a Pod.
    ///
    /// # Errors
    /// It is none.
    pub fn pod(&self) -> Result<&Pod, &NotAPod> {
        self.pod.as_ref()
    }

    /// The answer where the Namespace need not be known: the Pod is left alone, or there is none, or nobody can tell whether it
    /// should be injected. `None` means that it is to be.
    #[must_use]
    pub fn decide(&self, settings: &Settings) -> Option<Answer> {
        let pod = match &self.pod {
            Ok(pod) => pod,
            Err(error) => return Some(self.failed(400, error.to_string())),
        };
        match decide(pod, self.namespace(), settings) {
            Ok(Decision::Inject) => None,
            Ok(Decision::Skip(reason)) => Some(self.unchanged(reason)),
            Err(refusal) => Some(self.refused(&refusal)),
        }
    }

    /// Answers for a Pod that is to be injected.
    #[must_use]
    pub fn inject(mut self, surroundings: &Surroundings, settings: &Settings) -> Answer {
        let pod = match &mut self.pod {
            Ok(pod) => pod,
            Err(error) => {
                let message = error.to_string();
                return self.failed(400, message);
            }
        };
        let before = Before::of(pod);
        let warnings = match mutate(pod, self.text.take(), surroundings, settings) {
            Ok(warnings) => warnings,
            Err(refusal) => return self.refused(&refusal),
        };
        // Both sides as this program understands them: fields of a newer Kubernetes are no part of the difference.
        match before.patch(pod) {
            Ok(patch) => {
                self.answer(Outcome::Injected, 200, format!("valid {} request", self.kind), Some(patch), warnings)
            }
            Err(error) => self.failed(400, format!("failed to write the patch for {}: {error}", self.name)),
        }
    }

    /// Answers that the webhook itself cannot do its work.
    #[must_use]
    pub fn failed(&self, code: u16, message: String) -> Answer {
        self.answer(Outcome::Failed, code, message, None, Vec::new())
    }

    fn unchanged(&self, reason: SkipReason) -> Answer {
        let warnings = match reason {
            SkipReason::HostNetwork => vec![format!("pod {} stays outside the mesh: {reason}", self.name)],
            _ => Vec::new(),
        };
        let message = format!("{} {} does not require injection: {reason}", self.kind, self.name);
        self.answer(Outcome::Unchanged, 200, message, None, warnings)
    }

    fn refused(&self, refusal: &Refusal) -> Answer {
        let message = format!("{} {} cannot be injected: {refusal}", self.kind, self.name);
        self.answer(Outcome::Refused, 422, message, None, Vec::new())
    }

    fn answer(
        &self,
        outcome: Outcome,
        code: u16,
        message: String,
        patch: Option<Vec<u8>>,
        warnings: Vec<String>,
    ) -> Answer {
        let response = Response {
            uid: self.uid.clone(),
            allowed: matches!(outcome, Outcome::Injected | Outcome::Unchanged),
            status: Status { code, message },
            warnings,
        };
        let subject = format!("{}/{}", self.namespace, self.name);
        Answer { api_version: self.api_version.clone(), response, patch, subject, outcome }
    }
}

/// Reads the object, which must be what it is called.
fn pod(object: Option<&RawValue>) -> Result<Pod, NotAPod> {
    let text = object.map_or("null", RawValue::get);
    let pod: Pod = serde_json::from_str(text).map_err(|error| NotAPod(error.to_string()))?;
    // a field that is absent or null reads like an empty one, and the patch would lead nowhere
    if pod.metadata == ObjectMeta::default() || pod.spec.is_none() {
        return Err(NotAPod("metadata and spec must be objects, and metadata not empty".to_owned()));
    }
    Ok(pod)
}

impl Answer {
    /// What became of the Pod.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The body of the response.
    ///
    /// # Errors
    /// A text of the answer is no JSON, which no text is.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        const REST: usize = 1024;
        const BEFORE: &[u8] = br#","patchType":"JSONPatch","patch":""#;
        // of the response, and of the review
        const END: &[u8] = b"}}";
        let Self { api_version, response, patch, .. } = self;
        let length = patch.as_ref().map_or(0, |patch| patch.len().div_ceil(3) * 4);
        let mut body = Vec::with_capacity(REST + length);
        serde_json::to_writer(&mut body, &Sent { api_version, kind: "AdmissionReview", response })?;
        let Some(patch) = patch else { return Ok(body) };
        // The patch is nearly all of the answer. It is written into its place, and not looked at for what to escape.
        body.truncate(body.len() - END.len());
        body.extend_from_slice(BEFORE);
        let start = body.len();
        body.resize(start + length, 0);
        BASE64.encode_slice(patch, &mut body[start..]).map_err(serde::ser::Error::custom)?;
        body.push(b'"');
        body.extend_from_slice(END);
        Ok(body)
    }

    /// Namespace and name of the Pod.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What the answer says in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.response.status.message
    }

    /// What the answer warns of.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.response.warnings
    }
}

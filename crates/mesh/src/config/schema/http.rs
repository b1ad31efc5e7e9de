//! What is said of HTTP requests: which are meant, and what becomes of their headers.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Which requests a permission or a route is about; what is not said matches.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HttpMatch {
    pub(crate) path_exact: Option<String>,
    pub(crate) path_prefix: Option<String>,
    pub(crate) path_regex: Option<String>,
    pub(crate) case_insensitive: bool,
    pub(crate) methods: Vec<String>,
    pub(crate) header: Vec<HeaderMatch>,
    pub(crate) query_param: Vec<QueryMatch>,
}

/// A header and what its value must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HeaderMatch {
    pub(crate) name: String,
    pub(crate) present: bool,
    pub(crate) exact: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) suffix: Option<String>,
    pub(crate) contains: Option<String>,
    pub(crate) regex: Option<String>,
    pub(crate) ignore_case: bool,
    pub(crate) invert: bool,
}

/// A query parameter and what its value must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct QueryMatch {
    pub(crate) name: String,
    pub(crate) present: bool,
    pub(crate) exact: Option<String>,
    pub(crate) regex: Option<String>,
}

/// What a route or a split does to the headers of requests, or of their answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct HeaderChanges {
    pub(crate) add: BTreeMap<String, String>,
    pub(crate) set: BTreeMap<String, String>,
    pub(crate) remove: Vec<String>,
}

/// The changes to requests and to their answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Headers {
    pub(crate) request_headers: HeaderChanges,
    pub(crate) response_headers: HeaderChanges,
}

//! Requests go to the partition that they name.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, Uri};

use crate::names::DEFAULT;

/// What answers about each partition.
#[derive(Clone)]
pub(crate) struct Routers {
    all: Arc<[(Arc<str>, Router)]>,
    is_on: bool,
    /// Answers about one that is not there.
    otherwise: Router,
}

impl Routers {
    /// By the partitions' names, the default one first. Unless there are partitions, a request may name what it likes.
    pub(crate) fn new(all: Vec<(Arc<str>, Router)>, is_on: bool) -> Self {
        let names: Vec<&str> = all.iter().map(|(name, _)| &**name).collect();
        let text = format!("there is no such partition; there are {}\n", names.join(", "));
        let otherwise = Router::new().fallback(move || async move { (StatusCode::NOT_FOUND, text) });
        Self { all: all.into(), is_on, otherwise }
    }

    /// What answers a request to this address: `?partition=` says which, and it is the default one otherwise.
    pub(super) fn of(&self, uri: &Uri) -> Router {
        let fields = uri.query().unwrap_or_default().split('&');
        // names of partitions need no escaping
        let named = fields.filter_map(|field| field.strip_prefix("partition=")).find(|name| !name.is_empty());
        let wanted = named.filter(|_| self.is_on).unwrap_or(DEFAULT);
        let found = self.all.iter().find(|(name, _)| **name == *wanted).map(|(_, router)| router);
        found.unwrap_or(&self.otherwise).clone()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use axum::routing::get;
    use rstest::rstest;
    use tower::ServiceExt as _;

    use super::*;

    #[rstest]
    #[case::none_named(true, "/v1/x", 200, "default")]
    #[case::named(true, "/v1/x?index=1&partition=ap1", 200, "ap1")]
    #[case::the_default_one(true, "/v1/x?partition=default", 200, "default")]
    #[case::empty(true, "/v1/x?partition=", 200, "default")]
    #[case::not_there(true, "/v1/x?partition=ap9", 404, "there is no such partition; there are default, ap1\n")]
    #[case::where_there_are_none(false, "/v1/x?partition=ap9", 200, "default")]
    #[tokio::test]
    async fn who_answers(#[case] is_on: bool, #[case] path: &str, #[case] status: u16, #[case] body: &str) {
        let says = |name: &'static str| (name.into(), Router::new().route("/v1/x", get(move || async move { name })));
        let all = if is_on { vec![says("default"), says("ap1")] } else { vec![says("default")] };
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let answer = Routers::new(all, is_on).of(request.uri()).oneshot(request).await.expect("an answer");
        assert_eq!(answer.status(), status);
        let found = axum::body::to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        assert_eq!(found, body.as_bytes());
    }
}

//! Logins at a Kubernetes API that believes some tokens.

use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Json, Router};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::acl::token::Meta;

const METHOD: &str = "consul-k8s-auth-method";

/// An API server whose tokens are users' names, if they are.
fn kubernetes() -> Client {
    let review = |Json(mut review): Json<Value>| async move {
        let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
        review["status"] = match token.starts_with("system:") {
            true => json!({"authenticated": true, "user": {"username": token, "uid": "1"}}),
            false => json!({"authenticated": false, "error": "invalid bearer token"}),
        };
        Json(review)
    };
    let account = |Path((namespace, name)): Path<(String, String)>| async move {
        let annotations =
            if name == "renamed" { json!({"consul.hashicorp.com/service-name": "web"}) } else { json!({}) };
        Json(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        }))
    };
    let router = Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
        .route("/api/v1/namespaces/{namespace}/serviceaccounts/{name}", get(account));
    Client::new(router, "default")
}

pub(crate) fn acls(selector: &str, anonymous_reads: bool, directory: Option<PathBuf>) -> Acls {
    let options = AclOptions { auth_method: METHOD.to_owned(), selector: selector.to_owned(), anonymous_reads };
    Acls::start(options, vec![kubernetes()], directory).expect("a selector, and a directory")
}

fn chart() -> Acls {
    acls("serviceaccount.name!=default", true, None)
}

#[rstest]
#[case::named_after_its_service("system:serviceaccount:shop:web")]
#[case::by_its_annotation("system:serviceaccount:shop:renamed")]
#[tokio::test]
async fn an_account_is_the_service_of_its_name(#[case] bearer: &str) {
    let acls = chart();
    let meta = Meta::from([("pod".to_owned(), "shop/web-0".to_owned())]);
    let token = acls.log_in(METHOD, bearer, &meta).await.expect("believed");
    let shown = token.json();
    assert_eq!(shown["ServiceIdentities"], json!([{"ServiceName": "web"}]));
    assert_eq!(shown["AuthMethod"], METHOD);
    assert_eq!(shown["Description"], r#"token created via login: {"pod":"shop/web-0"}"#);
    let secret = shown["SecretID"].as_str();
    let rights = acls.rights(secret).expect("known");
    assert!(rights.reads() && rights.writes("web"));
    assert!(!rights.writes("shop") && !rights.operates());

    acls.log_out(secret).expect("its own");
    assert_eq!(acls.rights(secret), Err(Unknown));
    assert_eq!(acls.log_out(secret), Err(LogoutError::Unknown(Unknown)));
}

#[rstest]
#[case::another_method("other", "system:serviceaccount:shop:web", LoginError::Method("other".to_owned()))]
#[case::a_foreign_token(METHOD, "made-up", LoginError::Lookup("invalid bearer token".to_owned()))]
#[case::not_of_an_account(METHOD, "system:node:node-0",
    LoginError::Lookup("\"system:node:node-0\" is no service account".to_owned()))]
#[case::left_out_by_the_rule(METHOD, "system:serviceaccount:shop:default", LoginError::Unbound)]
#[tokio::test]
async fn who_is_refused(#[case] method: &str, #[case] bearer: &str, #[case] expected: LoginError) {
    assert_eq!(chart().log_in(method, bearer, &Meta::new()).await, Err(expected));
}

#[rstest]
#[case("serviceaccount.namespace==shop", "system:serviceaccount:shop:default", true)]
#[case("serviceaccount.namespace==shop", "system:serviceaccount:other:web", false)]
#[case("", "system:serviceaccount:other:default", true)]
#[tokio::test]
async fn the_rule_selects_accounts(#[case] selector: &str, #[case] bearer: &str, #[case] expected: bool) {
    let done = acls(selector, true, None).log_in(METHOD, bearer, &Meta::new()).await;
    assert_eq!(done.is_ok(), expected, "{done:?}");
}

#[rstest]
#[case(true)]
#[case(false)]
#[tokio::test]
async fn anybody_may_read_if_that_is_said(#[case] reads: bool) {
    let rights = acls("", reads, None).rights(None).expect("who shows none is anybody");
    assert_eq!((rights.reads(), rights.writes("web")), (reads, false));
}

#[tokio::test]
async fn tokens_outlive_the_servers() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || acls("", true, Some(directory.path().to_owned()));
    let first = start();
    let nothing = Meta::new();
    let log_in = || first.log_in(METHOD, "system:serviceaccount:shop:web", &nothing);
    let (kept, given_back) = (log_in().await.expect("believed"), log_in().await.expect("believed"));
    first.log_out(Some(&given_back.secret)).expect("known");
    let next = start();
    assert!(next.rights(Some(&kept.secret)).is_ok_and(|rights| rights.writes("web")));
    assert_eq!(next.rights(Some(&given_back.secret)), Err(Unknown));
    assert_eq!(next.bootstrap_secret(), first.bootstrap_secret());
    let operator = next.bootstrap_secret();
    assert_eq!(next.rights(Some(&operator)), Ok(Rights::All));
    assert_eq!(next.log_out(Some(&operator)), Err(LogoutError::NotByLogin));
}

#[tokio::test]
async fn the_token_of_a_pod_that_is_gone_goes_with_it() {
    let acls = acls("", true, None);
    let of_pod = Meta::from([("pod".to_owned(), "default/web".to_owned())]);
    let log_in = |meta| acls.log_in(METHOD, "system:serviceaccount:default:web", meta);
    let (early, other) = (log_in(&of_pod).await.expect("believed"), Meta::new());
    let nameless = log_in(&other).await.expect("believed");
    let is_known = |token: &Token| acls.rights(Some(&token.secret)).is_ok();
    acls.sweep(&Catalog::default());
    assert!(is_known(&early), "connect-init logs in before its Pod is registered");
    acls.sweep(&crate::fixture::world(&["web"], crate::Intention::Deny, &[]).catalog);
    assert!(is_known(&early));
    acls.sweep(&Catalog::default());
    assert_eq!((is_known(&early), is_known(&nameless)), (false, true));
    let operator = acls.bootstrap_secret();
    assert!(acls.rights(Some(&operator)).is_ok());
}

#[test]
fn a_selector_that_cannot_be_read_is_named() {
    let options = AclOptions { auth_method: METHOD.to_owned(), selector: "name".to_owned(), anonymous_reads: true };
    let error = Acls::start(options, Vec::new(), None).err().expect("no operator");
    let source = std::error::Error::source(&error).expect("why").to_string();
    assert!(source.contains("parse filter \"name\""), "{error}: {source}");
}

//! Who calls: bearer tokens and the users they stand for.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::status::{ApiError, Result};

/// How long a token says it lasts. It is not taken away after that: labs are short-lived.
const LIFETIME: SignedDuration = SignedDuration::from_secs(3607);

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: Map<String, Value>,
}

impl User {
    /// A part of the cluster.
    pub(crate) fn component(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            uid: String::new(),
            groups: vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
            extra: Map::new(),
        }
    }

    fn service_account(namespace: &str, name: &str, pod: Option<Bound<'_>>) -> Self {
        let mut extra = Map::new();
        if let Some(Bound { pod, uid, node }) = pod {
            if !node.is_empty() {
                extra.insert("authentication.kubernetes.io/node-name".to_owned(), json!([node]));
            }
            extra.insert("authentication.kubernetes.io/pod-name".to_owned(), json!([pod]));
            extra.insert("authentication.kubernetes.io/pod-uid".to_owned(), json!([uid]));
        }
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: String::new(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            extra,
        }
    }

    /// `userInfo` of an AdmissionReview, `user` of a TokenReview.
    pub(crate) fn info(&self) -> Value {
        let mut info = json!({ "username": self.name, "groups": self.groups });
        if !self.uid.is_empty() {
            info["uid"] = self.uid.clone().into();
        }
        if !self.extra.is_empty() {
            info["extra"] = self.extra.clone().into();
        }
        info
    }
}

/// The Pod that a token is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound<'a> {
    pub(crate) pod: &'a str,
    pub(crate) uid: &'a str,
    /// Empty where the Pod is on none.
    pub(crate) node: &'a str,
}

/// A token as issued.
pub(crate) struct Issued {
    pub(crate) token: String,
    pub(crate) expires: Timestamp,
}

/// The tokens of a cluster.
pub(crate) struct Auth {
    admin: String,
    tokens: RwLock<HashMap<String, User>>,
}

impl Auth {
    pub(crate) fn new() -> Self {
        let admin = random_part();
        let tokens = HashMap::from([(admin.clone(), User::component("kubernetes-admin"))]);
        Self { admin, tokens: RwLock::new(tokens) }
    }

    pub(crate) fn admin_token(&self) -> &str {
        &self.admin
    }

    pub(crate) fn admin(&self) -> User {
        User::component("kubernetes-admin")
    }

    /// Makes a token. It reads as the JSON web token of Kubernetes; its signature is random, and only this server can
    /// tell whether it is one of its own.
    pub(crate) fn issue(&self, namespace: &str, account: &str, pod: Option<Bound<'_>>, audiences: &[String]) -> Issued {
        let user = User::service_account(namespace, account, pod);
        let now = Timestamp::now();
        let expires = now + LIFETIME;
        let mut bound = json!({ "namespace": namespace, "serviceaccount": { "name": account } });
        if let Some(Bound { pod, uid, .. }) = pod {
            bound["pod"] = json!({ "name": pod, "uid": uid });
        }
        let audiences = match audiences {
            [] => vec!["https://kubernetes.default.svc.cluster.local".to_owned()],
            given => given.to_vec(),
        };
        let claims = json!({
            "aud": audiences, "exp": expires.as_second(), "iat": now.as_second(), "nbf": now.as_second(),
            "iss": "https://kubernetes.default.svc.cluster.local", "jti": Uuid::new_v4().to_string(),
            "kubernetes.io": bound, "sub": user.name,
        });
        let header = json!({ "alg": "RS256", "kid": "pellucid" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let token = format!("{}.{}.{}", part(&header), part(&claims), random_part());
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), user);
        Issued { token, expires }
    }

    /// The user of a token, if it is one of ours.
    pub(crate) fn user(&self, token: &str) -> Option<User> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    /// The caller of a request.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<User> {
        headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, token)| self.user(token.trim()))
            .ok_or_else(ApiError::unauthorized)
    }
}

fn random_part() -> String {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_issued_tokens_are_users() {
        let auth = Auth::new();
        let token = auth.issue("shop", "web", Some(Bound { pod: "web-1", uid: "uid", node: "" }), &[]).token;
        assert_eq!(token.split('.').count(), 3);
        let user = auth.user(&token).expect("issued");
        assert_eq!(user.name, "system:serviceaccount:shop:web");
        let mut headers = HeaderMap::new();
        assert_eq!(auth.authenticate(&headers).expect_err("no token").code(), 401);
        headers.insert(AUTHORIZATION, format!("Bearer {token}x").parse().expect("legal header"));
        assert_eq!(auth.authenticate(&headers).expect_err("unknown").code(), 401);
        headers.insert(AUTHORIZATION, format!("bearer {}", auth.admin_token()).parse().expect("legal header"));
        assert_eq!(auth.authenticate(&headers).expect("admin"), auth.admin());
    }
}

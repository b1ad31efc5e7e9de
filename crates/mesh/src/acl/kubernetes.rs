//! The auth method of type `kubernetes`: the API server says whose a bearer token is.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

/// Names the service of an account that is not named after its service.
const SERVICE_NAME: &str = "consul.hashicorp.com/service-name";

/// A service account that has shown its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    namespace: String,
    /// Its name, or the one that it is to go by.
    pub(super) name: String,
    uid: String,
}

impl Account {
    /// The account of a token, by the first cluster that knows it; otherwise what the last one said.
    pub(super) async fn of(clusters: &[Client], bearer: &str) -> Result<Self, String> {
        let mut refusal = "there is no Kubernetes cluster".to_owned();
        for cluster in clusters {
            match Self::in_cluster(cluster, bearer).await {
                Ok(account) => return Ok(account),
                Err(said) => refusal = said,
            }
        }
        Err(refusal)
    }

    async fn in_cluster(cluster: &Client, bearer: &str) -> Result<Self, String> {
        let spec = TokenReviewSpec { token: bearer.to_owned(), ..TokenReviewSpec::default() };
        let asked = TokenReview { spec, ..TokenReview::default() };
        let review = Api::<TokenReview>::all(cluster.clone()).create(&PostParams::default(), &asked).await;
        let status = review.map_err(|error| error.to_string())?.status.unwrap_or_default();
        if let Some(error) = status.error.filter(|error| !error.is_empty()) {
            return Err(error);
        }
        if status.authenticated != Some(true) {
            return Err("service account jwt not valid".to_owned());
        }
        let user = status.user.unwrap_or_default();
        let name = user.username.unwrap_or_default();
        let parts: Vec<&str> = name.split(':').collect();
        let ["system", "serviceaccount", namespace, name] = parts[..] else {
            return Err(format!("{name:?} is no service account"));
        };
        let found = Api::<ServiceAccount>::namespaced(cluster.clone(), namespace).get(name).await;
        let found = found.map_err(|error| format!("read the annotations of the service account: {error}"))?;
        let known_as = found.annotations().get(SERVICE_NAME).map_or(name, String::as_str);
        Ok(Self { namespace: namespace.to_owned(), name: known_as.to_owned(), uid: user.uid.unwrap_or_default() })
    }

    /// What selectors of binding rules see.
    pub(super) fn selectable(&self) -> Value {
        let Self { namespace, name, uid } = self;
        json!({"serviceaccount": {"namespace": namespace, "name": name, "uid": uid}})
    }
}

//! Tokens, and the file in which they outlive the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Rights;
use crate::kept::{self, KeptError};
use crate::mesh::uuid;

/// Name of the file in the data directory.
const FILE: &str = "tokens.json";

/// What a login says of its token.
pub(crate) type Meta = BTreeMap<String, String>;

/// A token of Consul's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    accessor: String,
    pub(super) secret: String,
    description: String,
    /// The service whose identity it gives; everything, where there is none.
    service: Option<String>,
    /// The Pod that it was made for, as `namespace/name`, if the login said it.
    pod: Option<String>,
    /// The method that made it, if it was made by a login.
    pub(super) auth_method: String,
    created: String,
}

impl Token {
    pub(super) fn of_login(service: &str, auth_method: &str, meta: &Meta) -> Self {
        let mut description = "token created via login".to_owned();
        if !meta.is_empty() {
            description.push_str(&format!(": {}", json!(meta)));
        }
        Self {
            description,
            service: Some(service.to_owned()),
            pod: meta.get("pod").cloned(),
            auth_method: auth_method.to_owned(),
            ..Self::of_operators()
        }
    }

    fn of_operators() -> Self {
        Self {
            accessor: uuid(),
            secret: uuid(),
            description: "Bootstrap Token (Global Management)".to_owned(),
            service: None,
            pod: None,
            auth_method: String::new(),
            created: jiff::Timestamp::now().to_string(),
        }
    }

    pub(super) fn rights(&self) -> Rights {
        match &self.service {
            None => Rights::All,
            Some(service) => Rights::Service { accessor: self.accessor.clone(), service: service.clone() },
        }
    }

    /// The id of the proxy that shows it, if it was made for a Pod.
    fn proxy_id(&self) -> Option<String> {
        let (_, pod) = self.pod.as_ref()?.split_once('/')?;
        Some(format!("{pod}-{}-sidecar-proxy", self.service.as_ref()?))
    }

    /// As Consul's HTTP API shows it to who holds it.
    pub(crate) fn json(&self) -> Value {
        let Self { accessor, secret, description, service, pod: _, auth_method, created } = self;
        let mut shown = json!({
            "AccessorID": accessor, "SecretID": secret, "Description": description, "CreateTime": created, "Local": true,
        });
        match service {
            Some(service) => {
                shown["AuthMethod"] = auth_method.as_str().into();
                shown["ServiceIdentities"] = json!([{"ServiceName": service}]);
            }
            None => {
                let id = "00000000-0000-0000-0000-000000000001";
                shown["Policies"] = json!([{"ID": id, "Name": "global-management"}]);
            }
        }
        shown
    }
}

/// All tokens, and where they are kept.
pub(super) struct Tokens {
    path: Option<PathBuf>,
    by_secret: BTreeMap<String, Token>,
    /// Secrets of those whose proxies have been registered.
    in_use: BTreeSet<String>,
    bootstrap: String,
}

impl Tokens {
    /// Those that were kept in `directory`, and one of operators.
    pub(super) fn start(directory: Option<PathBuf>) -> Result<Self, KeptError> {
        let path = directory.map(|directory| directory.join(FILE));
        let kept: Option<Vec<Token>> = path.as_deref().map(kept::read_file).transpose()?.flatten();
        let mut tokens = kept.unwrap_or_default();
        let bootstrap = match tokens.iter().find(|token| token.service.is_none()) {
            Some(found) => found.secret.clone(),
            None => {
                let made = Token::of_operators();
                tokens.push(made.clone());
                made.secret
            }
        };
        let by_secret = tokens.into_iter().map(|token| (token.secret.clone(), token)).collect();
        let tokens = Self { path, by_secret, in_use: BTreeSet::new(), bootstrap };
        tokens.keep()?;
        Ok(tokens)
    }

    pub(super) fn get(&self, secret: &str) -> Option<&Token> {
        self.by_secret.get(secret)
    }

    pub(super) fn bootstrap_secret(&self) -> &str {
        &self.bootstrap
    }

    pub(super) fn add(&mut self, token: Token) -> Result<(), KeptError> {
        self.by_secret.insert(token.secret.clone(), token);
        self.keep()
    }

    pub(super) fn remove(&mut self, secret: &str) -> Result<(), KeptError> {
        self.by_secret.remove(secret);
        self.in_use.remove(secret);
        self.keep()
    }

    /// Removes those whose proxies were registered, and are no more.
    pub(super) fn sweep(&mut self, is_registered: impl Fn(&str) -> bool) -> Result<(), KeptError> {
        let before = self.by_secret.len();
        let in_use = &mut self.in_use;
        self.by_secret.retain(|secret, token| match token.proxy_id() {
            Some(proxy) if is_registered(&proxy) => {
                in_use.insert(secret.clone());
                true
            }
            _ => !in_use.remove(secret),
        });
        if self.by_secret.len() == before { Ok(()) } else { self.keep() }
    }

    fn keep(&self) -> Result<(), KeptError> {
        let Some(path) = &self.path else { return Ok(()) };
        kept::write_file(path, &self.by_secret.values().collect::<Vec<_>>())
    }
}

//! Logging in to Consul's ACLs: the token of the Pod's service account is exchanged for one of Consul's, which is given back when
//! it has served.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, ClientError, Secret, Servers};
use crate::log::chain;
use crate::registration::{FIRST_RETRY, Patience};

/// What to log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Name of the auth method.
    pub auth_method: String,
    /// File with the token of the service account. Kubernetes replaces it now and then.
    pub bearer_token_file: PathBuf,
    /// What Consul's token is to say of its use.
    pub meta: BTreeMap<String, String>,
    /// Query parameters that choose datacenter, partition and namespace of the auth method.
    pub scope: Vec<(&'static str, String)>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[error("after {} s: log in with auth method {auth_method:?}{}", waited.as_secs(), source.hint())]
pub struct LoginError {
    /// How long was tried.
    waited: Duration,
    auth_method: String,
    source: Failure,
}

/// What went wrong in one attempt.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("read the service account's token from {} (is it mounted into this container?)", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Servers(#[from] ClientError),
}

impl Failure {
    /// Whether it may go away by itself: servers come up, and methods and rules may be made after the Pod.
    fn may_pass(&self) -> bool {
        match self {
            Self::Servers(ClientError::Status { status, .. }) => matches!(status, 403 | 429 | 500..),
            Self::File { .. } | Self::Servers(_) => true,
        }
    }

    /// What to check.
    fn hint(&self) -> &'static str {
        match self {
            Self::Servers(ClientError::Status { status: 403, .. }) => {
                " (does one of its binding rules select the Pod's service account? The chart's leave out the account \
                 \"default\": give the Pod one that is named after its service)"
            }
            Self::Servers(ClientError::Status { status: 401, .. }) => " (do the servers have ACLs?)",
            Self::File { .. } | Self::Servers(_) => "",
        }
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(rename = "SecretID")]
    secret: Secret,
}

/// Logs in, with patience where waiting may help, and returns the servers with the token for what is asked of them.
///
/// # Errors
/// [`LoginError`] when patience has run out, or when waiting does not help.
pub fn log_in(servers: &Servers, login: &Login, patience: &Patience) -> Result<Servers, LoginError> {
    let started = Instant::now();
    let client = Client::new(servers);
    let mut hint_at = patience.first_hint;
    let mut pause = FIRST_RETRY;
    loop {
        let failure = match attempt(&client, login) {
            Ok(secret) => return Ok(Servers { token: Some(secret), ..servers.clone() }),
            Err(failure) => failure,
        };
        let waited = started.elapsed();
        if waited >= patience.total || !failure.may_pass() {
            return Err(LoginError { waited, auth_method: login.auth_method.clone(), source: failure });
        }
        if waited >= hint_at {
            let (seconds, hint) = (waited.as_secs(), failure.hint());
            tracing::warn!(
                seconds,
                auth_method = login.auth_method,
                "not logged in yet{hint}: failed to {}",
                chain(&failure)
            );
            hint_at = waited + patience.hint_every;
        }
        std::thread::sleep(pause.min(patience.total.saturating_sub(waited)));
        pause = (pause * 2).min(patience.poll);
    }
}

/// Gives the servers' token back. A failure is logged: there is nobody who could do more about it.
pub fn log_out(servers: &Servers) {
    let dc: Vec<_> = servers.scope.iter().filter(|(parameter, _)| *parameter == "dc").cloned().collect();
    match Client::new(servers).post("/v1/acl/logout", &dc, "") {
        Ok(_) => tracing::debug!("logged out of Consul's ACLs"),
        Err(error) => tracing::warn!("failed to log out of Consul's ACLs, its token stays: {}", chain(&error)),
    }
}

fn attempt(client: &Client<'_>, login: &Login) -> Result<Secret, Failure> {
    let Login { auth_method, bearer_token_file, meta, scope } = login;
    let bearer =
        bearer_token(bearer_token_file).map_err(|source| Failure::File { path: bearer_token_file.clone(), source })?;
    let body = json!({"AuthMethod": auth_method, "BearerToken": bearer.expose(), "Meta": meta});
    let token: Token = client.post("/v1/acl/login", scope, &body.to_string())?.json()?;
    Ok(token.secret)
}

fn bearer_token(path: &Path) -> std::io::Result<Secret> {
    let text = std::fs::read_to_string(path)?;
    match text.trim() {
        "" => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the file is empty")),
        token => Ok(token.to_owned().into()),
    }
}

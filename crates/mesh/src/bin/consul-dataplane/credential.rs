//! What the control plane is shown: a token that was given, or one that a login is answered with and that is given back at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::control::Control;

/// Pauses between attempts while nobody answers, or the login is refused.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where the token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// There is none.
    None,
    /// It was given.
    Static(Token),
    /// It is had for the token of the Pod's service account.
    Login(Login),
}

/// A token, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// What to log in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) auth_method: String,
    /// Holds the bearer token. Kubernetes replaces it now and then.
    pub(crate) bearer_token: PathBuf,
    /// What the token is to say of its use.
    pub(crate) meta: BTreeMap<String, String>,
}

/// The control plane, asked with this credential; never ends while a login is refused.
pub(crate) async fn present(credential: &Credential, control: Control) -> Control {
    let login = match credential {
        Credential::None => return control,
        Credential::Static(token) => return control.showing(token.clone()),
        Credential::Login(login) => login,
    };
    let mut pause = FIRST_PAUSE;
    loop {
        match log_in(login, &control).await {
            Ok(token) => return control.showing(token),
            Err(error) => {
                if pause == FIRST_PAUSE {
                    tracing::warn!("failed to log in with {:?}: {error:#}; trying again", login.auth_method);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Gives the token back that a login was answered with.
pub(crate) async fn give_back(credential: &Credential, control: &Control) {
    if !matches!(credential, Credential::Login(_)) {
        return;
    }
    let asked = control.send(Method::POST, "/v1/acl/logout", bytes::Bytes::new()).await;
    match asked {
        Ok((StatusCode::OK, _)) => tracing::info!("logged out"),
        Ok((status, said)) => tracing::warn!("failed to log out: {status}: {}", String::from_utf8_lossy(&said)),
        Err(error) => tracing::warn!("failed to log out: {error:#}"),
    }
}

async fn log_in(login: &Login, control: &Control) -> anyhow::Result<Token> {
    let Login { auth_method, bearer_token, meta } = login;
    let bearer = bearer(bearer_token)?;
    let body = json!({"AuthMethod": auth_method, "BearerToken": bearer, "Meta": meta}).to_string();
    let (status, said) = control.send(Method::POST, "/v1/acl/login", body.into()).await?;
    ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&said));
    let token: Value = serde_json::from_slice(&said).context("the server's answer is no token")?;
    let secret = token["SecretID"].as_str().context("the server's answer is no token")?;
    Ok(Token(secret.to_owned()))
}

fn bearer(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read {}: is the service account's token mounted", path.display()))?;
    Ok(text.trim().to_owned())
}

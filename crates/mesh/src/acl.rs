//! Consul's ACLs, as far as the chart sets them up for Pods: an auth method that believes the Kubernetes API, one binding rule that
//! makes a service account the identity of the service of its name, and the tokens that logins are answered with.
//!
//! A service identity may write its own service, and read every service and node. The only other token is the one of operators,
//! which may do everything; policies and roles of one's own are not known here.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use kube::Client;

mod kubernetes;
mod rights;
#[cfg(test)]
pub(crate) mod tests;
mod token;

pub(crate) use rights::Rights;
pub(crate) use token::Token;

use crate::catalog::Catalog;
use crate::filter::{Filter, FilterError};
use crate::kept::KeptError;
use kubernetes::Account;
use token::Tokens;

/// ACLs that deny by default, as `global.acls.manageSystemACLs` has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclOptions {
    /// Name of the auth method that Pods log in with, as `consul-k8s-auth-method`.
    pub auth_method: String,
    /// Which service accounts the binding rule is for: `serviceaccount.name!=default`.
    pub selector: String,
    /// Whether who shows no token may read services and nodes: the chart says so where `dns.enabled` does.
    pub anonymous_reads: bool,
}

/// The selector of the binding rule is no filter expression.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SelectorError(FilterError);

/// Why there is no token for who logs in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("ACL not found: auth method {0:?} not found")]
    Method(String),
    /// The Kubernetes API does not believe the bearer token, or did not answer.
    #[error("lookup failed: {0}")]
    Lookup(String),
    /// No binding rule selects the account.
    #[error("Permission denied")]
    Unbound,
}

/// No token has this secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ACL not found")]
pub(crate) struct Unknown;

/// Why a token was not given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogoutError {
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// It was not made by a login.
    #[error("Permission denied")]
    NotByLogin,
}

/// The ACLs of a datacenter.
pub(crate) struct Acls {
    auth_method: String,
    rule: Filter,
    anonymous_reads: bool,
    /// Whose API servers may know a bearer token.
    clusters: Vec<Client>,
    tokens: Mutex<Tokens>,
}

impl Acls {
    /// With the tokens that were kept in `directory`, and one for operators.
    pub(crate) fn start(
        options: AclOptions,
        clusters: Vec<Client>,
        directory: Option<PathBuf>,
    ) -> Result<Self, crate::Error> {
        let AclOptions { auth_method, selector, anonymous_reads } = options;
        let rule = Filter::parse(&selector).map_err(SelectorError)?;
        let tokens = Mutex::new(Tokens::start(directory)?);
        Ok(Self { auth_method, rule, anonymous_reads, clusters, tokens })
    }

    /// Exchanges the token of a service account for one of Consul's. `meta` is what it is to say of its use.
    pub(crate) async fn log_in(&self, method: &str, bearer: &str, meta: &token::Meta) -> Result<Token, LoginError> {
        if method != self.auth_method {
            return Err(LoginError::Method(method.to_owned()));
        }
        let account = Account::of(&self.clusters, bearer).await.map_err(LoginError::Lookup)?;
        if !self.rule.accepts(&account.selectable()) {
            return Err(LoginError::Unbound);
        }
        let token = Token::of_login(&account.name, method, meta);
        self.change(|tokens| tokens.add(token.clone()));
        Ok(token)
    }

    /// Takes a token out of force that a login has made.
    pub(crate) fn log_out(&self, secret: Option<&str>) -> Result<(), LogoutError> {
        let token = self.token(secret)?;
        if token.auth_method.is_empty() {
            return Err(LogoutError::NotByLogin);
        }
        self.change(|tokens| tokens.remove(&token.secret));
        Ok(())
    }

    /// The token with this secret.
    pub(crate) fn token(&self, secret: Option<&str>) -> Result<Token, Unknown> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        secret.and_then(|secret| tokens.get(secret)).cloned().ok_or(Unknown)
    }

    /// What the holder of a secret may do; of none, what anybody may.
    pub(crate) fn rights(&self, secret: Option<&str>) -> Result<Rights, Unknown> {
        let Some(secret) = secret else { return Ok(Rights::Anonymous { reads: self.anonymous_reads }) };
        Ok(self.token(Some(secret))?.rights())
    }

    /// The secret of the token that operators have.
    pub(crate) fn bootstrap_secret(&self) -> String {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).bootstrap_secret().to_owned()
    }

    /// Takes tokens out of force whose proxies are no longer registered, as Consul's endpoints controller does: who is killed does
    /// not log out.
    pub(crate) fn sweep(&self, catalog: &Catalog) {
        self.change(|tokens| tokens.sweep(|proxy| catalog.proxy(None, proxy).is_some()));
    }

    fn change(&self, change: impl FnOnce(&mut Tokens) -> Result<(), KeptError>) {
        if let Err(error) = change(&mut self.tokens.lock().unwrap_or_else(PoisonError::into_inner)) {
            tracing::error!(error = &error as &dyn std::error::Error, "tokens are others at the next start");
        }
    }
}

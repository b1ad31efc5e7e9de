//! What a peering begins with: a token that one side makes and the other is given.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A token, with the names of Consul's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Token {
    /// Roots that the servers' certificates would be signed by.
    #[serde(rename = "CA")]
    pub(super) ca: Vec<String>,
    /// Where the servers are that accept, `host:port`.
    pub(super) server_addresses: Vec<String>,
    /// The name that their certificates would bear.
    pub(super) server_name: String,
    /// The partition that accepts, if it is not the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partition: Option<String>,
    #[serde(rename = "PeerID")]
    pub(super) peer_id: String,
    /// Whoever knows it is the other side.
    pub(super) establishment_secret: String,
}

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the peering token is not base64: take it over from the acceptor's Secret as it is")]
    Base64(#[source] base64::DecodeError),
    #[error(
        "the peering token is base64 of something else than a token: take it over from the acceptor's Secret as it is"
    )]
    Json(#[source] serde_json::Error),
}

impl Token {
    pub(super) fn encode(&self) -> String {
        // strings only: nothing that JSON could not hold
        STANDARD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(super) fn decode(text: &str) -> Result<Self, TokenError> {
        let json = STANDARD.decode(text.trim()).map_err(TokenError::Base64)?;
        serde_json::from_slice(&json).map_err(TokenError::Json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_it_was() {
        let token = Token {
            ca: vec!["PEM".to_owned()],
            server_addresses: vec!["172.18.255.2:8502".to_owned()],
            server_name: "server.dc1.peering.td.consul".to_owned(),
            partition: Some("ap1".to_owned()),
            peer_id: "id".to_owned(),
            establishment_secret: "secret".to_owned(),
        };
        assert_eq!(Token::decode(&token.encode()).expect("a token"), token);
        assert!(Token::decode("%").expect_err("no base64").to_string().contains("not base64"));
        assert!(Token::decode("e30=").expect_err("no token").to_string().contains("something else"));
    }
}

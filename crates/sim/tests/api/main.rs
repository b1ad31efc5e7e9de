//! The API server and the controllers, as clients see them: over HTTPS on loopback.

mod cluster;
mod controllers;
mod manifests;
mod node;
mod objects;
mod patches;
mod schemas;
mod webhooks;

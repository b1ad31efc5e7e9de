//! The webhook from outside: Pods in, Pods and refusals out; reviews over TLS.

mod difference;
mod injection;
mod modes;
mod pods;
mod refusals;
mod reviews;
mod settings;
mod warnings;

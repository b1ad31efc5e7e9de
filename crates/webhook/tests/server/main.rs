//! The admission server from outside: over TLS on the loopback.

mod hostile;
mod rotation;
mod running;
mod serving;

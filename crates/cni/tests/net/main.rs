//! The plugin as runtimes start it: a process with an environment and standard input, in namespaces made for each test.

mod add;
mod bed;
mod check;
mod debian;
mod install;
mod protocol;
mod refused;
mod root;

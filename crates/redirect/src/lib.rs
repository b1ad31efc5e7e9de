//! What a mesh redirects in a Pod's network namespace, as data; the rules that do it; and putting them in the kernel.

pub mod contract;

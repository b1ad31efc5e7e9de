//! The container shim: reads an order from its standard input, becomes the container's process.

fn main() -> std::process::ExitCode {
    sim::runtime::shim::main()
}

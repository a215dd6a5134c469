//! promfront's program: see the library for what it is.

fn main() -> std::process::ExitCode {
    promfront::cli::run()
}

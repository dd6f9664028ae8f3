//! See `mlbuild::cli::launcher`.

fn main() -> std::process::ExitCode {
    mlbuild::cli::launcher::main()
}

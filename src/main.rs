//! Arguments in, exit status out.

fn main() -> std::process::ExitCode {
    mlbuild::cli::main()
}

//! `mlbuild schema`.

use crate::cli::Exit;
use crate::cli::args::{Schema as Args, SchemaOf};
use crate::cli::failure::Failure;
use crate::cli::out;

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let schema = match args.of {
        SchemaOf::Spec => crate::spec::schema_json(),
        SchemaOf::Lock => crate::lock::wire::json_schema(),
        SchemaOf::Config => crate::registry::configuration::schema_json(),
    };
    out::print(format_args!("{schema}"));
    Ok(Exit::Success)
}

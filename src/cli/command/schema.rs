//! `mlbuild schema`.

use crate::cli::Exit;
use crate::cli::args::{Schema as Args, SchemaOf};
use crate::cli::failure::Failure;

pub fn run(args: &Args) -> Result<Exit, Failure> {
    let schema = match args.of {
        SchemaOf::Spec => crate::spec::schema_json(),
        SchemaOf::Lock => crate::lock::wire::json_schema(),
    };
    print!("{schema}");
    Ok(Exit::Success)
}

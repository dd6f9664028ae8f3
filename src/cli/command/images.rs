//! `mlbuild images`.

use super::{Session, named};
use crate::cli::Exit;
use crate::cli::args::Images as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::oci::Reference;
use crate::size::human as bytes;
use crate::store::ImageRecord;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let wanted = args.name.as_deref().map(str::parse::<Reference>).transpose();
    let wanted = wanted.map_err(|error| named::wrong(&error))?;
    let mut images = session.store()?.images()?;
    images.retain(|image| wanted.as_ref().is_none_or(|wanted| is_meant(image, wanted)));
    if args.json {
        out::json(&images);
        return Ok(Exit::Success);
    }
    if session.global.quiet {
        let mut digests: Vec<_> = images.iter().map(|image| image.digest).collect();
        digests.sort_unstable();
        digests.dedup();
        for digest in digests {
            out::line(format_args!("{digest}"));
        }
        return Ok(Exit::Success);
    }
    let rows: Vec<[String; 4]> = images
        .iter()
        .map(|image| {
            [
                on_one_line(&image.reference),
                match args.digests {
                    true => image.digest.to_string(),
                    false => image.digest.hex()[..12].to_owned(),
                },
                on_one_line(&image.platforms.join(",")),
                bytes(image.size),
            ]
        })
        .collect();
    out::print(format_args!("{}", table(["NAME", "DIGEST", "PLATFORMS", "SIZE"], &rows)));
    Ok(Exit::Success)
}

/// Without a tag all tags are meant.
fn is_meant(image: &ImageRecord, wanted: &Reference) -> bool {
    let Ok(reference) = image.reference.parse::<Reference>() else { return false };
    reference.name() == wanted.name()
        && wanted.tag().is_none_or(|tag| reference.digest().is_none() && reference.tag_or_default() == tag)
        && wanted.digest().is_none_or(|digest| image.digest == digest)
}

/// Columns as wide as their widest cell, two spaces between them.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows =
            [["app:1", "2 kB"], ["registry.example/app:latest", "1 B"]].map(|row| row.map(str::to_owned));
        let expected = "NAME                         SIZE\n\
                        app:1                        2 kB\n\
                        registry.example/app:latest  1 B\n";
        assert_eq!(table(["NAME", "SIZE"], &rows), expected);
        assert_eq!(table(["NAME", "SIZE"], &[]), "NAME  SIZE\n");
    }
}

//! `mlbuild images`.

use super::Session;
use crate::cli::Exit;
use crate::cli::args::Images as Args;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::text::on_one_line;
use crate::size::human as bytes;

pub fn run(session: &Session, args: &Args) -> Result<Exit, Failure> {
    let images = session.store()?.images()?;
    if args.json {
        out::json(&images);
        return Ok(Exit::Success);
    }
    let rows: Vec<[String; 4]> = images
        .iter()
        .map(|image| {
            let digest = image.digest.hex();
            [
                on_one_line(&image.reference),
                digest[..12].to_owned(),
                on_one_line(&image.platforms.join(",")),
                bytes(image.size),
            ]
        })
        .collect();
    out::print(format_args!("{}", table(["NAME", "DIGEST", "PLATFORMS", "SIZE"], &rows)));
    Ok(Exit::Success)
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

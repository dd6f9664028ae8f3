//! `[cuda]`, `[stage.*]`, `[[model]]` and `stage` of a `[[copy]]`: understood and checked, then refused, so that
//! nobody believes that they do something already and nobody has to write them anew later.

use super::super::check::quoted;
use super::super::source::Place;
use super::super::wire;
use super::{content, image, words};
use crate::diagnostic::{Diagnostic, did_you_mean};

pub(super) fn check(spec: &wire::Spec, root: &Place<'_>, found: &mut Vec<Diagnostic>) {
    if let Some(cuda) = &spec.cuda {
        check_cuda(cuda, &root.get("cuda"), found);
        found.push(not_yet("[cuda]", &root.get("cuda")));
    }
    for (name, stage) in &spec.stage {
        let place = root.get("stage").get(name);
        check_stage(name, stage, &place, found);
        found.push(not_yet(&format!("[stage.{}]", name.chars().take(80).collect::<String>()), &place));
    }
    for (at, model) in spec.model.iter().enumerate() {
        let place = root.get("model").at(at);
        check_model(model, &place, found);
        found.push(not_yet("[[model]]", &place));
    }
    for (at, copy) in spec.copy.iter().enumerate() {
        let Some(stage) = &copy.stage else { continue };
        let place = root.get("copy").at(at);
        check_stage_copy(copy, stage, spec, &place, found);
        found.push(not_yet("`stage` in [[copy]]", &place.get("stage")));
    }
}

fn not_yet(what: &str, place: &Place<'_>) -> Diagnostic {
    Diagnostic::error(format!("{what} is not yet supported"), place.key_span())
}

fn check_cuda(cuda: &wire::Cuda, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let versions = [
        ("version", Some(&cuda.version), 2..=2, "12.8"),
        ("cudnn", cuda.cudnn.as_ref(), 1..=4, "9.10"),
        ("driver", cuda.driver.as_ref(), 1..=3, "535"),
    ];
    for (key, text, parts, example) in versions {
        if let Some(text) = text.filter(|text| !words::is_version(text, parts)) {
            found.push(
                Diagnostic::error(
                    format!("`{key}` in [cuda]: {} is not such a version", quoted(text)),
                    place.get(key).span(),
                )
                .hint(format!("such as \"{example}\"")),
            );
        }
    }
    for (at, gpu) in cuda.gpus.iter().flatten().enumerate() {
        let capability = gpu.strip_prefix("sm_").is_none_or(|rest| {
            let digits = rest.trim_end_matches(['a', 'f']);
            rest.len() <= digits.len() + 1
                && (2..=3).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        let name = !gpu.trim().is_empty() && !gpu.chars().any(char::is_control);
        if !capability || !name {
            found.push(
                Diagnostic::error(format!("{} is not a GPU", quoted(gpu)), place.get("gpus").at(at).span())
                    .hint("a compute capability such as `sm_90`, or a product such as `L4`"),
            );
        }
    }
}

fn check_stage(name: &str, stage: &wire::Stage, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !good {
        found.push(
            Diagnostic::error(format!("{} is not the name of a stage", quoted(name)), place.key_span())
                .hint("lower-case letters, digits and `-`, beginning with a letter"),
        );
    }
    words::debian_names(&stage.packages, &place.get("packages"), found);
    image::check_env(&stage.env, &place.get("env"), found);
    for (at, command) in stage.run.iter().enumerate() {
        if command.trim().is_empty() {
            found.push(Diagnostic::error("a command is empty", place.get("run").at(at).span()));
        }
    }
    for (at, copy) in stage.copy.iter().enumerate() {
        let place = place.get("copy").at(at);
        words::project_path(&copy.from, "path", false, &place.get("from"), found);
        content::destination(&copy.to, &place.get("to"), found);
        content::check_patterns(&copy.exclude, &place.get("exclude"), found);
        if copy.stage.is_some() {
            found.push(Diagnostic::error(
                "a stage copies from the project only",
                place.get("stage").key_span(),
            ));
        }
    }
}

fn check_stage_copy(
    copy: &wire::Copy,
    stage: &str,
    spec: &wire::Spec,
    place: &Place<'_>,
    found: &mut Vec<Diagnostic>,
) {
    words::image_path(&copy.from, "path of a stage", &place.get("from"), found);
    content::destination(&copy.to, &place.get("to"), found);
    content::check_patterns(&copy.exclude, &place.get("exclude"), found);
    if !spec.stage.contains_key(stage) {
        let diagnostic =
            Diagnostic::error(format!("there is no stage {}", quoted(stage)), place.get("stage").span());
        let near =
            (stage.len() <= 64).then(|| did_you_mean(stage, spec.stage.keys().map(String::as_str))).flatten();
        found.push(match near {
            Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
            None => {
                diagnostic.hint(format!("define it: [stage.{}]", stage.chars().take(80).collect::<String>()))
            }
        });
    }
}

fn check_model(model: &wire::Model, place: &Place<'_>, found: &mut Vec<Diagnostic>) {
    let part = |part: &str| {
        !part.is_empty()
            && !matches!(part, "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if model.repo.split('/').count() > 2 || !model.repo.split('/').all(part) {
        found.push(
            Diagnostic::error(
                format!("{} is not a model's repository", quoted(&model.repo)),
                place.get("repo").span(),
            )
            .hint("expected `organisation/name`"),
        );
    }
    if let Some(revision) =
        model.revision.as_ref().filter(|text| text.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        found.push(Diagnostic::error(
            format!("{} is not a revision", quoted(revision)),
            place.get("revision").span(),
        ));
    }
    content::destination(&model.to, &place.get("to"), found);
    content::check_patterns(&model.files, &place.get("files"), found);
}

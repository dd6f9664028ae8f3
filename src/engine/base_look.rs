//! What is inside a base: which Python and C library it brings, and where links lead. Its layers are brought for it, once.
//!
//! A lock is where it is looked for, if the spec asks for Python, copies files or names a work directory; what is found stands
//! in the lock, so that a build needs no layer of the base. Only where the lock does not say where links lead (too many, or a
//! copy came later, which no lock depends on) does a build look itself.
//!
//! What one layer holds is remembered under its digest, so that a base of which one layer is new costs that layer.

use std::collections::{BTreeMap, BTreeSet};

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::{Deserialize, Serialize};

use super::base::BaseName;
use super::stored_layer::StoredLayer;
use super::{Engine, EngineError, Event, Phase, Project, Upgrade};
use crate::base::{BaseError, LOOK, Listing, Root, python};
use crate::digest::Digest;
use crate::elf::ElfFacts;
use crate::image;
use crate::layer::key::KeyBuilder;
use crate::lock::model::{BaseLayer, BaseLock, BasePaths, Inputs, Lock, PythonLock};
use crate::plan;
use crate::python::Request;
use crate::registry::Content as _;
use crate::spec::model::PythonProvider;
use crate::unpack::{self, Context, Limits, Packed};

/// By digest of the layer.
type Listings = BTreeMap<Digest, Listing>;
type Unknown<'a> = BTreeMap<Digest, &'a BaseLayer>;

/// Directories of the linker's configuration that an audit looks in, beside its own.
const LIBRARY_DIRECTORIES_MAX: usize = 256;

/// What the audit of an image needs to know of its base.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct BaseLibraries {
    /// Shared objects by path. What they need themselves is the base's affair.
    pub elf: Vec<(String, ElfFacts)>,
    pub links: Vec<(String, String)>,
    /// Directories that the linker is told to look in.
    pub directories: Vec<String>,
}

impl Engine {
    /// Fills in what the spec makes worth knowing of `bases`, and finds the interpreter where it is the base's.
    pub(super) fn look_at_bases(
        &self,
        project: &Project,
        inputs: &Inputs,
        old: Option<&Lock>,
        upgrade: &Upgrade,
        mut bases: Vec<BaseLock>,
    ) -> Result<(Vec<BaseLock>, Option<PythonLock>), EngineError> {
        let Some(name) = BaseName::of(inputs)? else { return Ok((bases, None)) };
        let of_base = inputs.python_provider == Some(PythonProvider::Base);
        let same = |old: &&Lock| {
            let manifests = |bases: &[BaseLock]| bases.iter().map(|base| base.manifest).collect::<Vec<_>>();
            manifests(&old.bases) == manifests(&bases)
                && (&old.inputs.python, old.inputs.python_provider)
                    == (&inputs.python, inputs.python_provider)
        };
        let old = old.filter(|_| *upgrade != Upgrade::All);
        let mut interpreter = old.filter(same).and_then(|old| old.python.clone()).filter(|_| of_base);
        let needs_paths = project.puts_files();
        let mut first: Option<(PythonLock, String)> = None;
        for base in &mut bases {
            if inputs.python.is_none() {
                base.glibc = None;
            }
            let known = (inputs.python.is_none() || base.glibc.is_some())
                && (!of_base || interpreter.is_some())
                && (!needs_paths || base.paths.is_some());
            if known {
                continue;
            }
            let root = self.look(&name, base)?;
            base.paths = root.paths();
            if inputs.python.is_some() {
                let (major, minor) = root.glibc(base.platform).map_err(name.failed())?;
                base.glibc = Some(format!("{major}.{minor}"));
            }
            if of_base && interpreter.is_none() {
                let found = self.find_python(project, &name, base, &root)?;
                let shown = format!("{} has {} ({})", base.platform, found.executable, found.version);
                match &first {
                    Some((other, other_shown)) if *other != found => {
                        let source = BaseError::PlatformsDiffer { first: other_shown.clone(), second: shown };
                        return Err(no_python(project, &name, source));
                    }
                    _ => first = Some((found, shown)),
                }
            }
        }
        interpreter = interpreter.or(first.map(|(found, _)| found));
        Ok((bases, interpreter))
    }

    pub(super) fn find_python(
        &self,
        project: &Project,
        name: &BaseName,
        base: &BaseLock,
        root: &Root,
    ) -> Result<PythonLock, EngineError> {
        let spec = project.spec.python.as_ref().expect("a base's Python is asked for by [python]");
        let request: Request = spec.version.parse().map_err(|error| EngineError::Python {
            request: spec.version.clone(),
            source: Box::from(error),
        })?;
        let (_, config) = self.base_documents(name, base)?;
        let config = crate::oci::ImageConfig::parse(&config).map_err(|error| name.failed()(error.into()))?;
        python::find(root, &image::search_path(&config), request, base.platform)
            .map_err(|source| no_python(project, name, source))
    }

    /// Where links of the base lead, for a build whose lock does not say.
    pub(super) fn base_paths(&self, lock: &Lock, base: &BaseLock) -> Result<BasePaths, EngineError> {
        match (&base.paths, BaseName::of(&lock.inputs)?) {
            (Some(paths), _) => Ok(paths.clone()),
            (None, Some(name)) => Ok(self.look(&name, base)?.all_paths()),
            (None, None) => Ok(BasePaths::default()),
        }
    }

    /// What the audit needs to know of the base, if its layers were ever looked at here.
    pub(super) fn base_libraries(&self, layers: &[&BaseLayer]) -> Result<Option<BaseLibraries>, EngineError> {
        let memo = self.store.memo_get(&libraries_key(layers))?;
        Ok(memo.and_then(|memo| serde_json::from_slice(&memo).ok()))
    }

    /// All layers of the base, brought where they have not been looked at before.
    pub(super) fn look(&self, name: &BaseName, base: &BaseLock) -> Result<Root, EngineError> {
        let (mut listings, unknown) = self.listings(base)?;
        if !unknown.is_empty() {
            self.reporter.event(Event::Phase(Phase::LookAtBase));
            for layer in unknown.values() {
                self.base_layer(&name.place, layer, &plan::base_key(layer))?;
            }
            self.bring(&unknown.keys().copied().collect::<Vec<_>>())?;
            let layers: Vec<_> = unknown.into_values().collect();
            let looked = self.pool()?.install(|| {
                let looked =
                    layers.into_par_iter().map(|layer| Ok((layer.digest, self.look_at_layer(layer)?)));
                looked.collect::<Result<Vec<_>, EngineError>>()
            });
            listings.extend(looked?);
        }
        let root = Root::of(base.layers.iter().map(|layer| &listings[&layer.digest]));
        let layers: Vec<_> = base.layers.iter().collect();
        let libraries = serde_json::to_vec(&libraries(&root)).expect("texts and numbers");
        self.store.memo_put(&libraries_key(&layers), &libraries)?;
        Ok(root)
    }

    /// The base's file system, if all its layers were looked at here before.
    pub(super) fn known_root(&self, base: &BaseLock) -> Result<Option<Root>, EngineError> {
        let (listings, unknown) = self.listings(base)?;
        let root = || Root::of(base.layers.iter().map(|layer| &listings[&layer.digest]));
        Ok(unknown.is_empty().then(root))
    }

    /// What is known of the base's layers, and those of which nothing is.
    fn listings<'a>(&self, base: &'a BaseLock) -> Result<(Listings, Unknown<'a>), EngineError> {
        let (mut listings, mut unknown) = (Listings::new(), Unknown::new());
        for layer in &base.layers {
            let memo = self.store.memo_get(&listing_key(layer))?;
            match memo.and_then(|memo| serde_json::from_slice(&memo).ok()) {
                Some(listing) => drop(listings.insert(layer.digest, listing)),
                None => drop(unknown.insert(layer.digest, layer)),
            }
        }
        Ok((listings, unknown))
    }

    fn look_at_layer(&self, layer: &BaseLayer) -> Result<Listing, EngineError> {
        let BaseLayer { digest, size, diff_id, .. } = *layer;
        let codec = layer.media_type.codec();
        let codec = codec.ok_or_else(|| EngineError::LayerType(layer.media_type.to_string()))?;
        let blob = StoredLayer::new(&self.store, digest, size, &self.cancel).open();
        let blob = blob.map_err(|source| EngineError::Blob { name: digest.to_string(), source })?;
        let packed = Packed { blob, codec, digest, size, diff_id };
        let context = Context { go_on: &|| self.cancel.check(), progress: &|_| () };
        let listing = unpack::look(packed, Limits::default(), context)
            .map_err(|source| EngineError::Unpack { layer: digest, source })?;
        let memo = serde_json::to_vec(&listing).expect("texts and numbers");
        self.store.memo_put(&listing_key(layer), &memo)?;
        Ok(listing)
    }
}

fn no_python(project: &Project, name: &BaseName, source: BaseError) -> EngineError {
    let request = project.spec.python.as_ref().map(|python| python.version.clone()).unwrap_or_default();
    EngineError::BasePython { request, reference: name.reference.to_string(), source }
}

fn listing_key(layer: &BaseLayer) -> Digest {
    KeyBuilder::new("base listing").field("look", LOOK).field("layer", layer.digest).finish()
}

fn libraries_key(layers: &[&BaseLayer]) -> Digest {
    let key = KeyBuilder::new("base libraries").field("look", LOOK);
    layers.iter().fold(key, |key, layer| key.field("layer", layer.digest)).finish()
}

fn libraries(root: &Root) -> BaseLibraries {
    let is_shared = |path: &str| path.rsplit('/').next().is_some_and(|name| name.contains(".so"));
    let elf = root.files().filter(|(path, _)| is_shared(path)).filter_map(|(path, facts)| {
        let elf = facts.elf.clone()?;
        Some((path.to_owned(), ElfFacts { needed: Vec::new(), ..elf }))
    });
    let directories = root.files().flat_map(|(_, facts)| &facts.library_directories);
    let mut seen = BTreeSet::new();
    let directories = directories.filter_map(|directory| root.real(directory));
    let directories = directories.filter(|directory| seen.insert(directory.clone()));
    let directories = directories.take(LIBRARY_DIRECTORIES_MAX).collect();
    let links = root.links().map(|(path, target)| (path.to_owned(), target.to_owned()));
    BaseLibraries { elf: elf.collect(), links: links.collect(), directories }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Entry, FileFacts};

    #[test]
    fn an_audit_is_told_of_libraries_and_where_they_lie() {
        let file = |facts| Entry::File { executable: false, facts: Some(Box::new(facts)) };
        let elf = |soname: &str| FileFacts {
            elf: Some(ElfFacts {
                class64: true,
                machine: 62,
                soname: Some(soname.to_owned()),
                needed: vec!["libgone.so.1".to_owned()],
                runpath: Vec::new(),
                interp: None,
            }),
            ..FileFacts::default()
        };
        let conf = FileFacts { library_directories: vec!["/opt/lib".to_owned()], ..FileFacts::default() };
        let listing = Listing {
            entries: [
                ("etc/ld.so.conf.d/a.conf", file(conf)),
                ("opt/lib", Entry::Symlink { target: "/srv/lib".to_owned() }),
                ("srv/lib/liba.so.1", file(elf("liba.so.1"))),
                ("usr/bin/tool", file(elf("tool"))),
            ]
            .map(|(path, entry)| (path.to_owned(), entry))
            .into(),
            ..Listing::default()
        };
        let found = libraries(&Root::of([&listing]));
        let names: Vec<_> = found.elf.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, ["srv/lib/liba.so.1"]);
        assert!(found.elf[0].1.needed.is_empty(), "what the base lacks is not ours to say");
        assert_eq!(found.directories, ["srv/lib"]);
        assert_eq!(found.links, [("opt/lib".to_owned(), "/srv/lib".to_owned())]);
    }
}

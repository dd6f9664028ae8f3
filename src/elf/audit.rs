//! Which libraries the image's files need and nothing in the image provides.
//!
//! For each `DT_NEEDED` entry the loader's search is repeated: the file's own `DT_RUNPATH` or `DT_RPATH` with
//! `$ORIGIN`, the directories of `ld.so.conf`, the built-in ones. What is not found there but has its SONAME somewhere
//! in the image is a weaker finding ([`Verdict::OffPath`]): packages load such libraries themselves before the file
//! that needs them. Within one package of `site-packages` that is the rule (torch does it), so it is not reported.
//!
//! An image may be hostile: files that need thousands of names, in hundreds of directories each. So a directory is
//! followed once for each file that names it, and a name is looked for where files and links of that name stand.
//!
//! Deviations from `ld.so`, all on the lenient side: `DT_RPATH` of the files that load a file is not inherited (the
//! result is `OffPath` at worst), `LD_LIBRARY_PATH` is not known, hardware-capability directories are not searched.

use std::collections::{BTreeMap, BTreeSet};

use super::parse::{ElfFacts, machine};
use super::search::{built_in, directory, expanded, resolved};
use crate::oci::Platform;
use crate::tree::TreePath;

/// Directories of one file's own that are looked in: the longest list of a wheel has some thirty.
const RUNPATH_MAX: usize = 256;

/// A library that files need and their search does not find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// As `DT_NEEDED` writes it.
    pub library: String,
    /// Sorted.
    pub needed_by: Vec<TreePath>,
    pub verdict: Verdict,
    /// Debian package that provides it.
    pub hint: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing in the image has this name: what needs it will not load.
    Absent,
    /// Nothing in the image has this name, but the host's driver brings it, or only plug-ins that are loaded on demand
    /// need it.
    Optional,
    /// It is in the image, on no search path of the files that need it: they load if something else has loaded it.
    OffPath { at: TreePath },
}

/// Names every library of the image's files for `platform` that their search does not find, by verdict, then name.
///
/// `files` are all ELF files of the image by path (a hard link is a file of its own), `links` its symbolic links,
/// `conf_dirs` the absolute directories that `ld.so.conf` names, in order. None once `go_on`, which is asked before each
/// file, says no.
pub fn audit(
    files: &[(TreePath, ElfFacts)],
    links: &BTreeMap<TreePath, String>,
    conf_dirs: &[String],
    platform: Platform,
    go_on: &dyn Fn() -> bool,
) -> Option<Vec<Missing>> {
    let image = Image::new(files, links, conf_dirs, platform);
    let mut found: BTreeMap<(Verdict, String), BTreeSet<TreePath>> = BTreeMap::new();
    for (path, facts) in files.iter().filter(|(_, facts)| facts.machine == machine(platform)) {
        if !go_on() {
            return None;
        }
        let needed: BTreeSet<&String> = facts.needed.iter().collect();
        let own = if needed.is_empty() { BTreeSet::new() } else { image.own_directories(path, facts) };
        for library in needed {
            if let Some(verdict) = image.look(path, facts.class64, &own, library) {
                found.entry((verdict, library.clone())).or_default().insert(path.clone());
            }
        }
    }
    let missing = found
        .into_iter()
        .map(|((verdict, library), needed_by)| Missing {
            hint: debian_package(&library),
            library,
            needed_by: needed_by.into_iter().collect(),
            verdict,
        })
        .collect();
    Some(missing)
}

struct Image<'a> {
    /// Files that a process of the platform can load, by path: class.
    loadable: BTreeMap<&'a TreePath, bool>,
    /// The same by SONAME and by file name.
    named: BTreeMap<&'a str, BTreeSet<&'a TreePath>>,
    /// The directories in which such a file stands, or a link to one, and its class; by its name there.
    places: BTreeMap<&'a str, BTreeSet<(&'a str, bool)>>,
    links: &'a BTreeMap<TreePath, String>,
    /// Searched for every file, beside its own directories.
    common: BTreeSet<String>,
    platform: Platform,
}

impl<'a> Image<'a> {
    fn new(
        files: &'a [(TreePath, ElfFacts)],
        links: &'a BTreeMap<TreePath, String>,
        conf_dirs: &[String],
        platform: Platform,
    ) -> Self {
        let mut loadable = BTreeMap::new();
        let mut named: BTreeMap<&str, BTreeSet<&TreePath>> = BTreeMap::new();
        for (path, facts) in files.iter().filter(|(_, facts)| facts.machine == machine(platform)) {
            loadable.insert(path, facts.class64);
            named.entry(path.name()).or_default().insert(path);
            if let Some(soname) = &facts.soname {
                named.entry(soname).or_default().insert(path);
            }
        }
        let wanted = files.iter().flat_map(|(_, facts)| &facts.needed).map(|library| last(library));
        let wanted: BTreeSet<&str> = wanted.collect();
        let mut places: BTreeMap<&str, BTreeSet<(&str, bool)>> = BTreeMap::new();
        let all = loadable.iter().map(|(path, class64)| (*path, *class64));
        let linked = links.keys().filter_map(|link| {
            let at = wanted.contains(link.name()).then(|| resolved(link.as_str(), links))??;
            Some((link, *loadable.get(&at)?))
        });
        for (path, class64) in all.chain(linked) {
            let above = path.as_str().rsplit_once('/').map_or("", |(above, _)| above);
            places.entry(path.name()).or_default().insert((above, class64));
        }
        let common = conf_dirs.iter().cloned().chain(built_in(platform));
        let common = common.filter_map(|text| directory(&text, links)).collect();
        Self { loadable, named, places, links, common, platform }
    }

    /// The real directories that the file itself names.
    fn own_directories(&self, path: &TreePath, facts: &ElfFacts) -> BTreeSet<String> {
        let own = facts.runpath.iter().take(RUNPATH_MAX);
        let own = own.filter_map(|text| expanded(text, path, self.platform));
        own.filter_map(|text| directory(&text, self.links)).collect()
    }

    /// `None` when `path`, which needs `library`, gets it.
    fn look(&self, path: &TreePath, class64: bool, own: &BTreeSet<String>, library: &str) -> Option<Verdict> {
        let places = self.places.get(last(library));
        if library.contains('/') {
            let found = library.starts_with('/') && places.is_some() && self.loads(library, class64);
            return (!found).then_some(Verdict::Absent);
        }
        if let Some(places) = places {
            let is_place = |directory: &String| places.contains(&(directory.as_str(), class64));
            // Through whichever is shorter.
            let found = if places.len() < own.len() {
                places.iter().any(|(above, class)| *class == class64 && own.contains(*above))
            } else {
                own.iter().any(is_place)
            };
            if found || self.common.iter().any(is_place) {
                return None;
            }
        }
        let elsewhere = || {
            self.named
                .get(library)
                .into_iter()
                .flatten()
                .copied()
                .filter(|at| self.loadable.get(at) == Some(&class64))
        };
        if elsewhere().any(|at| same_package(at, path)) {
            return None;
        }
        Some(match elsewhere().next() {
            Some(at) => Verdict::OffPath { at: at.clone() },
            None if is_optional(library) => Verdict::Optional,
            None => Verdict::Absent,
        })
    }

    fn loads(&self, path: &str, class64: bool) -> bool {
        resolved(path, self.links).is_some_and(|at| self.loadable.get(&at) == Some(&class64))
    }
}

/// A library's name without its directory, if it has one.
fn last(library: &str) -> &str {
    library.rsplit('/').next().unwrap_or(library)
}

/// Both lie below one top-level directory of `site-packages`; `numpy.libs` belongs to `numpy`.
fn same_package(a: &TreePath, b: &TreePath) -> bool {
    match (package(a), package(b)) {
        (Some(a), Some(b)) => a == b,
        _ => false,
    }
}

fn package(path: &TreePath) -> Option<&str> {
    let (_, below) =
        ["/site-packages/", "/dist-packages/"].iter().find_map(|dir| path.as_str().split_once(dir))?;
    let (top, _) = below.split_once('/')?;
    Some(top.strip_suffix(".libs").unwrap_or(top))
}

/// Brought by the host's driver, or needed only by plug-ins that are loaded when the hardware is there.
fn is_optional(library: &str) -> bool {
    const DRIVER: [&str; 8] = [
        "libcuda.so.",
        "libcudadebugger.so.",
        "libnvidia-",
        "libnvcuvid.so.",
        "libnvoptix.so.",
        "libGLX_nvidia.so.",
        "libEGL_nvidia.so.",
        "libamdhip64.so.",
    ];
    const PLUG_INS: [&str; 16] = [
        "libibverbs.so.",
        "librdmacm.so.",
        "libmlx5.so.",
        "libefa.so.",
        "libfabric.so.",
        "libgdrapi.so.",
        "libucp.so.",
        "libucs.so.",
        "libuct.so.",
        "libucm.so.",
        "libmpi.so.",
        "liboshmem.so.",
        "libpmix.so.",
        "libpsm_infinipath.so.",
        "libpsm2.so.",
        "libcaca.so.",
    ];
    DRIVER.iter().chain(&PLUG_INS).any(|name| library.starts_with(name)) || library == "libcuda.so"
}

/// Debian's package of a library, in bookworm and, itself or as a name it provides, in trixie.
fn debian_package(library: &str) -> Option<&'static str> {
    PACKAGES.iter().find(|(name, _)| *name == library).map(|(_, package)| *package)
}

/// Libraries that wheels were seen to need, and the packages that bring them.
const PACKAGES: [(&str, &str); 68] = [
    ("libEGL.so.1", "libegl1"),
    ("libGL.so.1", "libgl1"),
    ("libGLU.so.1", "libglu1-mesa"),
    ("libGLX.so.0", "libglx0"),
    ("libGLdispatch.so.0", "libglvnd0"),
    ("libICE.so.6", "libice6"),
    ("libOpenCL.so.1", "ocl-icd-libopencl1"),
    ("libOpenGL.so.0", "libopengl0"),
    ("libSM.so.6", "libsm6"),
    ("libX11-xcb.so.1", "libx11-xcb1"),
    ("libX11.so.6", "libx11-6"),
    ("libXcursor.so.1", "libxcursor1"),
    ("libXext.so.6", "libxext6"),
    ("libXfixes.so.3", "libxfixes3"),
    ("libXi.so.6", "libxi6"),
    ("libXinerama.so.1", "libxinerama1"),
    ("libXrandr.so.2", "libxrandr2"),
    ("libXrender.so.1", "libxrender1"),
    ("libXt.so.6", "libxt6"),
    ("libXxf86vm.so.1", "libxxf86vm1"),
    ("libaio.so.1", "libaio1"),
    ("libasound.so.2", "libasound2"),
    ("libatomic.so.1", "libatomic1"),
    ("libblas.so.3", "libblas3"),
    ("libbz2.so.1.0", "libbz2-1.0"),
    ("libcrypt.so.1", "libcrypt1"),
    ("libcrypto.so.3", "libssl3"),
    ("libcurl.so.4", "libcurl4"),
    ("libdrm.so.2", "libdrm2"),
    ("libefa.so.1", "libibverbs1"),
    ("libelf.so.1", "libelf1"),
    ("libexpat.so.1", "libexpat1"),
    ("libfabric.so.1", "libfabric1"),
    ("libffi.so.8", "libffi8"),
    ("libfontconfig.so.1", "libfontconfig1"),
    ("libfreetype.so.6", "libfreetype6"),
    ("libgcc_s.so.1", "libgcc-s1"),
    ("libgfortran.so.5", "libgfortran5"),
    ("libgio-2.0.so.0", "libglib2.0-0"),
    ("libglib-2.0.so.0", "libglib2.0-0"),
    ("libgmodule-2.0.so.0", "libglib2.0-0"),
    ("libgobject-2.0.so.0", "libglib2.0-0"),
    ("libgomp.so.1", "libgomp1"),
    ("libgthread-2.0.so.0", "libglib2.0-0"),
    ("libhwloc.so.15", "libhwloc15"),
    ("libibverbs.so.1", "libibverbs1"),
    ("liblapack.so.3", "liblapack3"),
    ("liblzma.so.5", "liblzma5"),
    ("libmlx5.so.1", "ibverbs-providers"),
    ("libmpi.so.40", "libopenmpi3"),
    ("libnsl.so.1", "libc6"),
    ("libnuma.so.1", "libnuma1"),
    ("libopenblas.so.0", "libopenblas0"),
    ("libportaudio.so.2", "libportaudio2"),
    ("libquadmath.so.0", "libquadmath0"),
    ("librdmacm.so.1", "librdmacm1"),
    ("libsndfile.so.1", "libsndfile1"),
    ("libsqlite3.so.0", "libsqlite3-0"),
    ("libssl.so.3", "libssl3"),
    ("libstdc++.so.6", "libstdc++6"),
    ("libtbb.so.12", "libtbb12"),
    ("libtinfo.so.6", "libtinfo6"),
    ("libudev.so.1", "libudev1"),
    ("libusb-1.0.so.0", "libusb-1.0-0"),
    ("libuuid.so.1", "libuuid1"),
    ("libxcb.so.1", "libxcb1"),
    ("libxml2.so.2", "libxml2"),
    ("libz.so.1", "zlib1g"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "usr/local/lib/python3.11/dist-packages";

    fn path(text: &str) -> TreePath {
        TreePath::new(&text.replace("SITE", SITE)).unwrap()
    }

    fn library(at: &str, soname: Option<&str>, needed: &[&str], runpath: &[&str]) -> (TreePath, ElfFacts) {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let facts = ElfFacts {
            class64: true,
            machine: machine(Platform::LinuxAmd64),
            soname: soname.map(str::to_owned),
            needed: owned(needed),
            runpath: owned(runpath),
            interp: None,
        };
        (path(at), facts)
    }

    fn report(files: &[(TreePath, ElfFacts)], conf_dirs: &[&str]) -> Vec<String> {
        let links = BTreeMap::from([
            (path("lib"), "usr/lib".to_owned()),
            (path("usr/lib/x86_64-linux-gnu/libz.so.1"), "libz.so.1.2.13".to_owned()),
        ]);
        let conf_dirs: Vec<String> = conf_dirs.iter().map(|dir| (*dir).to_owned()).collect();
        audit(files, &links, &conf_dirs, Platform::LinuxAmd64, &|| true)
            .expect("it went on")
            .into_iter()
            .map(|missing| {
                let by: Vec<_> = missing.needed_by.iter().map(|path| path.name().to_owned()).collect();
                let verdict = match missing.verdict {
                    Verdict::Absent => "absent".to_owned(),
                    Verdict::Optional => "optional".to_owned(),
                    Verdict::OffPath { at } => format!("at {}", at.name()),
                };
                format!("{} {verdict} by {} hint {:?}", missing.library, by.join("+"), missing.hint)
            })
            .collect()
    }

    #[test]
    fn search_order_of_the_loader() {
        let z = library("usr/lib/x86_64-linux-gnu/libz.so.1.2.13", Some("libz.so.1"), &[], &[]);
        let user = |runpath: &[&str]| library("opt/user.so", None, &["libx.so"], runpath);
        let x = library("opt/x/libx.so", None, &["libz.so.1"], &[]);
        assert_eq!(report(&[user(&["$ORIGIN/x"]), x.clone(), z.clone()], &[]), [""; 0]);
        assert_eq!(report(&[user(&[]), x.clone(), z.clone()], &["/opt/x"]), [""; 0]);
        assert_eq!(report(&[user(&["$ORIGIN/y"]), x, z], &[]), ["libx.so at libx.so by user.so hint None"]);
    }

    /// Every way to a library but by its own name in its own directory.
    #[test]
    fn links_lead_to_libraries() {
        let z = library("usr/lib/x86_64-linux-gnu/libz.so.1.2.13", None, &[], &[]);
        let user = |needed: &str, runpath: &str| library("opt/user.so", None, &[needed], &[runpath]);
        for (needed, runpath, found) in [
            // A link to the file, in a directory that is reached through another.
            ("libz.so.1", "", true),
            ("libz.so.1", "/opt", true),
            ("libz.so.1.2.13", "$ORIGIN/../lib/x86_64-linux-gnu", true),
            ("/lib/x86_64-linux-gnu/libz.so.1", "", true),
            ("/opt/../lib/./x86_64-linux-gnu/libz.so.1", "", true),
            ("/lib/libz.so.1", "", false),
            ("lib/libz.so.1", "", false),
            ("libz.so.2", "/lib/x86_64-linux-gnu", false),
        ] {
            let said = report(&[user(needed, runpath), z.clone()], &[]);
            assert_eq!(said.is_empty(), found, "{needed} {runpath}: {said:?}");
        }
        let root = [user("libx.so", "/"), library("libx.so", None, &[], &[])];
        assert_eq!(report(&root, &[]), [""; 0]);
    }

    #[test]
    fn nothing_is_said_once_it_is_to_stop() {
        let files = [library("opt/a.so", None, &["libx.so"], &[])];
        let links = BTreeMap::new();
        let all = |go_on| audit(&files, &links, &[], Platform::LinuxAmd64, &|| go_on);
        assert_eq!(all(true).map(|missing| missing.len()), Some(1));
        assert_eq!(all(false), None);
    }

    #[test]
    fn absent_libraries_are_named_once_with_a_package() {
        let files = [
            library("SITE/cv2/cv2.abi3.so", None, &["libGL.so.1", "libcuda.so.1"], &[]),
            library("SITE/a/b.so", None, &["libGL.so.1", "libibverbs.so.1", "libmine.so"], &[]),
        ];
        assert_eq!(
            report(&files, &[]),
            [
                "libGL.so.1 absent by b.so+cv2.abi3.so hint Some(\"libgl1\")",
                "libmine.so absent by b.so hint None",
                "libcuda.so.1 optional by cv2.abi3.so hint None",
                "libibverbs.so.1 optional by b.so hint Some(\"libibverbs1\")",
            ]
        );
    }

    #[test]
    fn a_package_loads_its_own_libraries() {
        let files = [
            library("SITE/torch/_C.so", None, &["libtorch.so", "libblas-1.so"], &[]),
            library("SITE/torch/lib/libtorch.so", None, &[], &[]),
            library("SITE/numpy/core.so", None, &["libblas-1.so"], &[]),
            library("SITE/numpy.libs/libblas-1.so", None, &[], &[]),
        ];
        assert_eq!(report(&files, &[]), ["libblas-1.so at libblas-1.so by _C.so hint None"]);
    }

    #[test]
    fn other_machines_and_classes_do_not_count() {
        let mut foreign = library("usr/lib/libx.so", None, &["libgone.so"], &[]);
        foreign.1.machine = machine(Platform::LinuxArm64);
        let mut narrow = library("usr/lib/liby.so", None, &[], &[]);
        narrow.1.class64 = false;
        let files = [library("opt/a.so", None, &["libx.so", "liby.so"], &[]), foreign, narrow];
        assert_eq!(
            report(&files, &[]),
            ["libx.so absent by a.so hint None", "liby.so absent by a.so hint None"]
        );
    }

    #[test]
    fn package_table_is_sorted() {
        assert!(PACKAGES.is_sorted(), "keep it in order: it is read by people");
    }
}

//! A real image as the base of another: its Python is found without running it, and finds what is put upon it.

use crate::registry::peer::{Auth, Peer};
use crate::support::mlbuild::Project;
use crate::support::reference::Reference;
use crate::support::skip::or_skip;

#[test]
fn the_python_of_a_base_finds_what_is_put_upon_it() {
    let hello = or_skip!("the Python of a base", Reference::get("hello"));
    let peer = or_skip!("the Python of a base", Peer::start(None, Auth::None));
    let base = format!("{}/team/hello:1", peer.host);
    let owner = Project::empty().with_store(&hello.store);
    let _ = owner.mlbuild(&["push", "--image", "registry.example/mlbuild/hello", &base]).ok();

    let spec = format!(
        "[image]\nname = \"registry.example/upon\"\nentrypoint = [\"python\"]\nuser = \"nonroot\"\n\
         [base]\noci = \"{base}\"\n[python]\nversion = \"3.11\"\ndependencies = [\"six==1.17.0\"]\n\
         [[copy]]\nfrom = \"app\"\nto = \"/home/nonroot/app\"\n"
    );
    let project = Project::new(&spec);
    project.write(
        "app/main.py",
        "import numpy, six, sys\nprint(six.__version__, numpy.ones(2).sum(), sys.prefix)\n",
    );
    let _ = project.mlbuild(&["build"]).ok();
    let lock = project.read("mlbuild.lock");
    for line in [
        "provider = \"base\"",
        "executable = \"/usr/bin/python3.11\"",
        "site-packages = \"/usr/local/lib/python3.11/dist-packages\"",
        "glibc = \"2.36\"",
    ] {
        assert!(lock.contains(&format!("\n{line}\n")), "{line}\n{lock}");
    }
    let ran = project.mlbuild(&[
        "run",
        "--network",
        "none",
        "registry.example/upon",
        "--",
        "/home/nonroot/app/main.py",
    ]);
    assert_eq!(ran.ok().stdout().trim(), "1.17.0 2.0 /usr");
}

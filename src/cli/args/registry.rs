//! Verbs of registries and of names.

use std::path::PathBuf;

use clap::Args;

use super::Project;
use crate::oci::Platform;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild push                                     the image of the spec in this directory, under its name
  mlbuild push registry.example/app:1.2 --tag latest
  mlbuild push --image app:dev registry.example/team/app:dev
  mlbuild push --dry-run --json                    what would be sent, and why
  mlbuild push --check                             mend the image in the registry, should it have lost something

Blobs that the registry has are not sent; those that it has in another repository are mounted. The tag appears \
when everything below it is there, and the registry is asked what it serves then. Where the tag stands for the image \
already, that is the only question; --check asks for every blob and manifest all the same, and sends what is \
missing. `mlbuild login` lets you in, `mlbuild login --help` says how a registry with a private CA or over plain HTTP \
is reached.

The image of the spec is the one that a build has made from the spec and its lock as they are now: exit status 3 if one of \
them has changed since, or if the name stands for an image from elsewhere. Files that [[copy]] takes are not looked at: if \
they have changed since the build, the image that was built before is pushed. `mlbuild build --push` builds first; --image \
pushes what the store has, whatever it was built from.")]
pub struct Push {
    /// Where to: registry, repository and tag. An image of the store that has this name is pushed, else that of the spec
    #[arg(value_name = "REF")]
    pub references: Vec<String>,
    /// Push this image of the store, by name, digest or the first digits of one (six or more)
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// A further tag in the repository of the first REF (may be given several times)
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    #[command(flatten)]
    pub project: Project,
    /// Look for every blob, also where the tag stands for the image already, and send what is missing
    #[arg(long)]
    pub check: bool,
    /// Only say what would be sent. Whether the registry mounts what it has elsewhere cannot be seen without trying
    #[arg(long)]
    pub dry_run: bool,
    /// Print what became of each blob as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild pull registry.example/app:1.2
  mlbuild pull registry.example/app@sha256:...       exactly this one
  mlbuild pull --platform linux/arm64 registry.example/app:1.2

Documents of all platforms are kept, so that the image can be pushed elsewhere as it is; layers of other platforms \
are downloaded when somebody needs them. The last line of standard output is the digest. `mlbuild login --help` says how a \
registry with a private CA or over plain HTTP is reached.")]
pub struct Pull {
    /// An image or an index in a registry, by tag or digest
    #[arg(value_name = "REF")]
    pub image: String,
    /// Download the layers of this platform (may be given several times) [default: this machine's]
    #[arg(long, value_name = "P")]
    pub platform: Vec<Platform>,
    /// Download no layer yet
    #[arg(long, conflicts_with = "platform")]
    pub no_layers: bool,
    /// Print what was pulled as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild tag registry.example/app:1.2 registry.example/app:latest
  mlbuild tag 60a9aeccdc20 app:good app:today

An image that had one of the new names before loses it.")]
pub struct Tag {
    /// A name or digest in the store; the first digits of a digest will do, if they are six or more
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// New names of that image
    #[arg(value_name = "TARGET", required = true)]
    pub targets: Vec<String>,
    /// Print the digest and the new names as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild rmi registry.example/app:1.2
  mlbuild rmi --force 60a9aeccdc20                all names of this image
  mlbuild rmi --force $(mlbuild images --quiet)

What was built stays in the store until `mlbuild cache prune`. Exit status 2, and nothing is removed, \
when one of them is not there.")]
pub struct Rmi {
    /// Names, digests or first digits of digests (six or more)
    #[arg(value_name = "REF", required = true)]
    pub images: Vec<String>,
    /// Remove all names of a digest, and pass over what is not there
    #[arg(long, short = 'f')]
    pub force: bool,
    /// Print what was removed as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild attach registry.example/app:1.2 mlbuild.lock
  mlbuild attach registry.example/app:1.2 app.spdx.json
  mlbuild attach registry.example/app:1.2 eval.json --artifact-type application/vnd.example.eval+json -a model=7b

It becomes an artifact with the image as its subject, in the image's repository: other tools find it by the \
registry's referrers API, or by the tag sha256-DIGEST where there is none. The last line of standard output is \
the digest of its manifest. What is attached already is not sent again.")]
pub struct Attach {
    /// An image or an index in a registry, by tag or digest
    #[arg(value_name = "REF")]
    pub image: String,
    /// What is attached
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What it is [default: by the name, of mlbuild.lock, *.spdx.json and *.cdx.json]
    #[arg(long, visible_alias = "type", value_name = "TYPE/SUBTYPE")]
    pub artifact_type: Option<String>,
    /// Say something of it (may be given several times)
    #[arg(long, short = 'a', value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Print digests and what was done as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild referrers registry.example/app:1.2
  mlbuild referrers registry.example/app:1.2 --artifact-type application/spdx+json --quiet
  mlbuild referrers registry.example/app:1.2 --output attached
  mlbuild inspect --raw registry.example/app@DIGEST       the manifest of one of them

--output writes files under the names that they were attached with, and prints their paths. A name that is not plain (a \
path, hidden, none at all) is replaced by the SHA-256; files of one name and several contents have the first digits of \
theirs before it. No file is written over: exit status 2 if one is there with other content, and nothing is written then.")]
pub struct Referrers {
    /// An image or an index in a registry, by tag or digest
    #[arg(value_name = "REF")]
    pub image: String,
    /// Only those of this type
    #[arg(long, visible_alias = "type", value_name = "TYPE/SUBTYPE")]
    pub artifact_type: Option<String>,
    /// Write what is attached into this directory
    #[arg(long, short = 'o', value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Print their descriptors, and those of their files, as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild login registry.example                        asks for both
  printf %s \"$TOKEN\" | mlbuild login -u robot --password-stdin registry.example:5000

The registry is asked whether it lets them in. What it refuses is not kept (exit status 2), nor is \
anything kept when it cannot be reached (5).

They are kept where other tools find them too: by the credential helper (credHelpers, \
credsStore) of the file that has the registry, or else in that file, in plain text. The files:
$REGISTRY_AUTH_FILE alone, or else $XDG_RUNTIME_DIR/containers/auth.json, \
$XDG_CONFIG_HOME/containers/auth.json and $DOCKER_CONFIG/config.json (~/.docker/config.json), \
to which a new registry goes. $DOCKER_AUTH_CONFIG, the text of such a file, goes before all.

How a registry is reached, $XDG_CONFIG_HOME/mlbuild/config.toml (~/.config/mlbuild/config.toml) says:
  [registries.\"registry.example:5000\"]
  ca = [\"ca.pem\"]                   authorities to trust besides the system's (or certs.d of Docker and podman)
  client-certificate = \"me.pem\"     what it is shown, with client-key
  insecure = true                   plain HTTP; localhost needs no such word
  realms = [\"auth.example\"]         other hosts whose token servers see the credential
  mirrors = [\"mirror.example\"]      asked first for what has a digest
`mlbuild schema config` has all keys.")]
pub struct Login {
    /// Host and port [default: the registry that the spec in this directory names]
    #[arg(value_name = "REGISTRY")]
    pub registry: Option<String>,
    /// User name
    #[arg(long, short = 'u', value_name = "USER")]
    pub username: Option<String>,
    /// Take the password from standard input, without the line break at its end
    #[arg(long)]
    pub password_stdin: bool,
    /// Keep them without asking the registry
    #[arg(long)]
    pub no_verify: bool,
    /// Refused, in our words
    #[arg(long, short = 'p', hide = true, num_args = 0..=1, value_name = "PASSWORD")]
    pub password: Option<Option<String>>,
    #[command(flatten)]
    pub project: Project,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  mlbuild logout registry.example

Every file that `mlbuild login --help` names forgets the registry, and so do their credential helpers.")]
pub struct Logout {
    /// Host and port [default: the registry that the spec in this directory names]
    #[arg(value_name = "REGISTRY")]
    pub registry: Option<String>,
    #[command(flatten)]
    pub project: Project,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}
